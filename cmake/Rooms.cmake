# A room is a folder src/<room>: its *.cc files become the static library preheat_<room>, its
# *_test.cc files the test program <room>_test, each NAME_fuzz.cc a program of its own. A room's CMakeLists.txt is
# one call:
#
#   preheat_room(store DEPS base sys LIBS zstd)
#
# DEPS are rooms on lower floors (src/floors.txt says which; tests/floors_test checks it).

add_library(preheat_options INTERFACE)
target_include_directories(preheat_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(preheat_options INTERFACE -Wall -Wextra -Wshadow -Werror=switch
                       -Wno-missing-field-initializers)  # designated initialisers leave the rest at its default
if(PREHEAT_WERROR)
  target_compile_options(preheat_options INTERFACE -Werror)
endif()
if(PREHEAT_SANITIZE)
  # The libraries' own assertions, too: an index past a span, a RapidJSON value taken for what it is not.
  target_compile_options(preheat_options INTERFACE -fsanitize=${PREHEAT_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all -O1 -UNDEBUG -D_GLIBCXX_ASSERTIONS)
  target_link_options(preheat_options INTERFACE -fsanitize=${PREHEAT_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    target_compile_options(preheat_options INTERFACE
                           -fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/cmake/sanitizer_ignorelist.txt)
  endif()
  add_library(preheat_sanitizer_options STATIC ${PROJECT_SOURCE_DIR}/cmake/sanitizer_options.cc)
  target_compile_options(preheat_sanitizer_options PRIVATE -fsanitize=${PREHEAT_SANITIZE})
  target_link_libraries(preheat_options INTERFACE preheat_sanitizer_options)
  # Only the sanitizer refers to what is in it, and weakly: the linker must be told.
  target_link_options(preheat_options INTERFACE -Wl,-u,preheat_sanitizer_options)
endif()
if(PREHEAT_FUZZ)
  target_compile_options(preheat_options INTERFACE -fsanitize=fuzzer-no-link)  # coverage of every room
endif()

function(preheat_add_rooms)
  file(STRINGS ${PROJECT_SOURCE_DIR}/src/floors.txt lines REGEX "^[0-9]")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[0-9]+[ ]+" "" rooms "${line}")
    string(REPLACE " " ";" rooms "${rooms}")
    foreach(room IN LISTS rooms)
      if(EXISTS ${PROJECT_SOURCE_DIR}/src/${room}/CMakeLists.txt AND NOT room STREQUAL "cli")
        add_subdirectory(src/${room})
      endif()
    endforeach()
  endforeach()
endfunction()

# preheat_room(<name> [DEPS room...] [LIBS target...] [TEST_DEPS room...] [EXCLUDE file...])
function(preheat_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LIBS;TEST_DEPS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz)\\.cc$")
  foreach(file IN LISTS ROOM_EXCLUDE)
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()

  list(TRANSFORM ROOM_DEPS PREPEND preheat_)
  list(TRANSFORM ROOM_TEST_DEPS PREPEND preheat_)
  if(sources)
    add_library(preheat_${name} STATIC ${sources})
    target_link_libraries(preheat_${name} PUBLIC preheat_options ${ROOM_DEPS} PRIVATE ${ROOM_LIBS})
  else()
    add_library(preheat_${name} INTERFACE)
    target_link_libraries(preheat_${name} INTERFACE preheat_options ${ROOM_DEPS} ${ROOM_LIBS})
  endif()

  if(PREHEAT_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE preheat_${name} ${ROOM_TEST_DEPS} ${ROOM_LIBS} preheat_testing)
    gtest_discover_tests(${name}_test DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
  endif()
  if(PREHEAT_FUZZ)
    foreach(file IN LISTS fuzzers)
      get_filename_component(fuzzer ${file} NAME_WE)
      add_executable(${fuzzer} ${file})
      target_link_libraries(${fuzzer} PRIVATE preheat_${name})
      target_link_options(${fuzzer} PRIVATE -fsanitize=fuzzer)
      # As a test: its seeds and what once failed, then some ten thousand mutations. What it finds of interest goes into the
      # first folder, so that the sources stay as they are.
      set(found ${CMAKE_CURRENT_BINARY_DIR}/${fuzzer}_corpus)
      file(MAKE_DIRECTORY ${found})
      add_test(NAME ${fuzzer} COMMAND ${fuzzer} -runs=50000 ${found} ${PROJECT_SOURCE_DIR}/testdata/fuzz/${fuzzer})
      set_tests_properties(${fuzzer} PROPERTIES TIMEOUT 300)
    endforeach()
  endif()
endfunction()
