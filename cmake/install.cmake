# Where Debian expects a daemon, its tool and their pages.
install(TARGETS kilatd DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS kilatctl kilat-bench DESTINATION ${CMAKE_INSTALL_BINDIR})
