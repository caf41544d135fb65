# Where Debian expects a daemon, its tools, their pages, the unit and the settings.
install(TARGETS kilatd DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS kilatctl kilat-bench DESTINATION ${CMAKE_INSTALL_BINDIR})
kilat_glob(manual_pages docs/man/*.[158])
foreach(page ${manual_pages})
  string(REGEX REPLACE ".*\\.([158])$" "\\1" section ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES packaging/kilatd.service DESTINATION lib/systemd/system)
