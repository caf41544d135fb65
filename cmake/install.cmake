# Where Debian expects a daemon, its tools, their pages, the unit and the settings.
install(TARGETS kilatd DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS kilatctl kilat-bench DESTINATION ${CMAKE_INSTALL_BINDIR})
kilat_glob(manual_pages docs/man/*.[158])
foreach(page ${manual_pages})
  string(REGEX REPLACE ".*\\.([158])$" "\\1" section ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES packaging/kilatd.service DESTINATION lib/systemd/system)

# The manual page of the settings and the sample file are printed from the table in the code.
add_custom_command(
  OUTPUT ${CMAKE_BINARY_DIR}/kilat.conf.5 ${CMAKE_BINARY_DIR}/kilat.conf.sample
  COMMAND sh ${CMAKE_SOURCE_DIR}/cmake/settings_pages.sh $<TARGET_FILE:kilatctl>
          ${CMAKE_SOURCE_DIR}/docs/man/kilat.conf.5.in ${CMAKE_BINARY_DIR}
  DEPENDS kilatctl ${CMAKE_SOURCE_DIR}/docs/man/kilat.conf.5.in ${CMAKE_SOURCE_DIR}/cmake/settings_pages.sh)
add_custom_target(kilat_pages ALL
  DEPENDS ${CMAKE_BINARY_DIR}/kilat.conf.5 ${CMAKE_BINARY_DIR}/kilat.conf.sample)
install(FILES ${CMAKE_BINARY_DIR}/kilat.conf.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
install(FILES ${CMAKE_BINARY_DIR}/kilat.conf.sample DESTINATION share/doc/kilat)
