# Sourced by demo.sh and test.sh: installs the Debian packages that building needs, if any is missing.
# With root it calls apt-get, else sudo where there is one; without the right it prints the command and stops.

preheat_packages=(g++ cmake ninja-build libfmt-dev rapidjson-dev libcli11-dev libpcre2-dev libzstd-dev
                  libssl-dev libdnnl-dev libgtest-dev libgmock-dev libbenchmark-dev)

preheat_missing_packages() {
  local package
  for package in "${preheat_packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || echo "$package"
  done
}

preheat_install_dependencies() {
  local missing
  missing=$(preheat_missing_packages | tr '\n' ' ')
  [ -z "$missing" ] && return 0
  local elevate=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      elevate=(sudo)
    else
      echo "These Debian packages are missing, and installing them needs root. Run this, then start again:" >&2
      echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
      return 77
    fi
  fi
  echo "Installing: $missing" >&2
  "${elevate[@]}" apt-get update -qq
  # shellcheck disable=SC2086  # a list of package names
  "${elevate[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

preheat_install_dependencies || exit $?
