"""What a socket may be waited for, in the bits of poll(2) and epoll(7)."""

READ = 0x01  # POLLIN, EPOLLIN
WRITE = 0x04  # POLLOUT, EPOLLOUT
ERROR = 0x08  # POLLERR: reported without being asked for
HANG_UP = 0x10  # POLLHUP: likewise; a reset, or both directions have ended
