find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.3)
pkg_check_modules(CONFUSE REQUIRED IMPORTED_TARGET libconfuse)
pkg_check_modules(LDNS REQUIRED IMPORTED_TARGET ldns)

# jemalloc is linked into the programs and never called; sanitizers bring an allocator of their own.
add_library(kilat_malloc INTERFACE)
if(NOT KILAT_SANITIZE)
  find_library(JEMALLOC_LIBRARY jemalloc REQUIRED)
  target_link_libraries(kilat_malloc INTERFACE -Wl,--no-as-needed ${JEMALLOC_LIBRARY} -Wl,--as-needed)
endif()
