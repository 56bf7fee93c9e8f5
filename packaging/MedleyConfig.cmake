# SPDX-License-Identifier: Apache-2.0
# CMake package of Medley: find_package(Medley), then link Medley::medley (shared) or Medley::medley_static.
# Paths are relative to this file, so that an installed tree may be moved.
get_filename_component(_medley_libdir "${CMAKE_CURRENT_LIST_DIR}/" ABSOLUTE)
get_filename_component(_medley_includedir "${CMAKE_CURRENT_LIST_DIR}/" ABSOLUTE)

if(EXISTS "${_medley_libdir}/libmedley.so" AND NOT TARGET Medley::medley)
  add_library(Medley::medley SHARED IMPORTED)
  set_target_properties(Medley::medley PROPERTIES
    IMPORTED_LOCATION "${_medley_libdir}/libmedley.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_medley_includedir}")
endif()

if(EXISTS "${_medley_libdir}/libmedley.a" AND NOT TARGET Medley::medley_static)
  add_library(Medley::medley_static STATIC IMPORTED)
  separate_arguments(_medley_libs UNIX_COMMAND "-lsodium  -lhwloc   -lpthread")
  set_target_properties(Medley::medley_static PROPERTIES
    IMPORTED_LOCATION "${_medley_libdir}/libmedley.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_LINK_LIBRARIES "${_medley_libs}"
    INTERFACE_INCLUDE_DIRECTORIES "${_medley_includedir}")
endif()

if(NOT TARGET Medley::medley AND NOT TARGET Medley::medley_static)
  set(Medley_FOUND FALSE)
  set(Medley_NOT_FOUND_MESSAGE "no libmedley in ${_medley_libdir}")
endif()
unset(_medley_libs)
unset(_medley_libdir)
unset(_medley_includedir)
