/* What the load generator and the fake replicas share: a clock, a growing buffer, socket set-up, a header's value. */
#ifndef HTTP_H
#define HTTP_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Bytes [start, end) are valid; the room behind `end` is free. */
typedef struct {
    char *bytes;
    size_t start, end, room;
} Buffer;

static inline size_t buffered(const Buffer *b) { return b->end - b->start; }

static inline void make_room(Buffer *b, size_t more) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->end + more <= b->room) return;
    if (b->start) {
        memmove(b->bytes, b->bytes + b->start, buffered(b));
        b->end -= b->start;
        b->start = 0;
    }
    if (b->end + more <= b->room) return;
    b->room = 2 * (b->end + more);
    b->bytes = realloc(b->bytes, b->room);
    if (!b->bytes) die("out of memory");
}

static inline void append(Buffer *b, const char *bytes, size_t n) {
    make_room(b, n);
    memcpy(b->bytes + b->end, bytes, n);
    b->end += n;
}

/* Sends what is buffered. Returns 1 when all is gone, 0 when the socket is full, -1 when the peer is gone. */
static inline int send_buffered(int fd, Buffer *b) {
    while (buffered(b)) {
        ssize_t n = send(fd, b->bytes + b->start, buffered(b), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) b->start += (size_t)n;
        else if (errno == EAGAIN) return 0;
        else if (errno != EINTR) return -1;
    }
    return 1;
}

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline void send_small_packets_at_once(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void watch(int epoll, int operation, int fd, uint32_t events, void *source) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(epoll, operation, fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

/* The value of header `name` ("content-length:", colon included) in a NUL-terminated head, or NULL. */
static inline const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, length)) continue;
        return line + length + strspn(line + length, " ");
    }
    return NULL;
}

#endif
