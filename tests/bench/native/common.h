/* What the benchmark's programs share: time, sockets, and the words load and far speak.

   A request is a head of two little-endian numbers of 64 bits: how many bytes follow it (up), and
   how many are to come back once they are in (down). So an upload, a download and a small question
   are one thing, and a connection may carry any number of requests, one after the other. */

#ifndef NGROKD_BENCH_COMMON_H
#define NGROKD_BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 16
#define BATCH_BYTES (256 * 1024) /* given to or taken from a socket at once */
#define FRAME_BYTES 4096         /* the longest upgrade frame that is expected here */

struct request {
    uint64_t up, down;
};

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void no_delay(int fd)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Thousands of connections need as many descriptors. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* HOST:PORT, of IPv4. */
static inline struct sockaddr_in parse_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    int port;

    errno = 0;
    if (sscanf(text, "%63[^:]:%d", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die(text);
    address.sin_port = htons((uint16_t)port);
    return address;
}

static inline int listen_at(const char *text, int flags)
{
    struct sockaddr_in address = parse_address(text);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die(text);
    return fd;
}

/* Bytes written in hex, two digits each; how many. */
static inline size_t parse_hex(const char *text, unsigned char *into, size_t room)
{
    size_t count = strlen(text) / 2;
    unsigned value;

    errno = 0;
    if (count > room)
        die("too long");
    for (size_t i = 0; i < count; i++) {
        if (sscanf(text + 2 * i, "%2x", &value) != 1)
            die(text);
        into[i] = (unsigned char)value;
    }
    return count;
}

#endif
