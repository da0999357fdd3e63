"""natd's plugin for networks whose router is a Linux box: `linux-router` beside this folder starts it."""
