# Everything comes from Debian packages. What the runtime links is static (zstd, PCRE2, crypto) or
# header-only (fmt, RapidJSON), so that preheat-run needs nothing but glibc.
find_package(Threads REQUIRED)

function(preheat_static_library name archive header package)
  find_library(PREHEAT_${name}_ARCHIVE NAMES ${archive} REQUIRED)
  find_path(PREHEAT_${name}_INCLUDE NAMES ${header} REQUIRED)
  add_library(preheat_${name} STATIC IMPORTED GLOBAL)
  set_target_properties(preheat_${name} PROPERTIES IMPORTED_LOCATION ${PREHEAT_${name}_ARCHIVE}
                        INTERFACE_INCLUDE_DIRECTORIES ${PREHEAT_${name}_INCLUDE})
  if(NOT PREHEAT_${name}_ARCHIVE)
    message(FATAL_ERROR "${archive} was not found: install ${package}")
  endif()
endfunction()

preheat_static_library(zstd_static libzstd.a zstd.h libzstd-dev)
preheat_static_library(pcre2_static libpcre2-8.a pcre2.h libpcre2-dev)
preheat_static_library(crypto_static libcrypto.a openssl/evp.h libssl-dev)
target_link_libraries(preheat_crypto_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS})

find_path(PREHEAT_FMT_INCLUDE fmt/format.h REQUIRED)
find_path(PREHEAT_RAPIDJSON_INCLUDE rapidjson/rapidjson.h REQUIRED)
find_path(PREHEAT_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)

if(PREHEAT_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
  add_library(preheat_testing INTERFACE)
  target_link_libraries(preheat_testing INTERFACE GTest::gtest GTest::gtest_main GTest::gmock)
  target_compile_definitions(preheat_testing INTERFACE
    PREHEAT_TESTDATA="${PROJECT_SOURCE_DIR}/testdata" PREHEAT_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endif()
