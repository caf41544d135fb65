# Warnings are errors; hardening is on in every build but the sanitizers' own.
add_library(kilat_flags INTERFACE)
target_compile_definitions(kilat_flags INTERFACE _GNU_SOURCE KILAT_VERSION="${PROJECT_VERSION}")
target_compile_options(kilat_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wformat=2 -Wvla -Wimplicit-fallthrough -Wwrite-strings -Wno-missing-field-initializers
  -fno-strict-aliasing -fno-delete-null-pointer-checks -fno-strict-overflow -fno-omit-frame-pointer
  -msse4.2)

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(kilat_flags INTERFACE -O1 -g)
else()
  target_compile_options(kilat_flags INTERFACE -g)
endif()

if(KILAT_SANITIZE)
  target_compile_options(kilat_flags INTERFACE
    -fsanitize=${KILAT_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(kilat_flags INTERFACE -fsanitize=${KILAT_SANITIZE})
else()
  target_compile_options(kilat_flags INTERFACE
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fPIE)
  target_link_options(kilat_flags INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(kilat_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  endif()
endif()
if(KILAT_FUZZ)
  target_compile_options(kilat_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
# ASSERT of ours is on in every build, so NDEBUG has nothing to switch off.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
string(REPLACE "-O3" "-O2" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
# core/ calls the door and the door calls core/ back, and which of them the linker meets first differs from program to
# program: it looks at all libraries until nothing is missing.
string(REPLACE "<LINK_LIBRARIES>" "-Wl,--start-group <LINK_LIBRARIES> -Wl,--end-group" CMAKE_C_LINK_EXECUTABLE
  "${CMAKE_C_LINK_EXECUTABLE}")
