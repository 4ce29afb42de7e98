/* The client of the benchmark: workers with blocking sockets, one JSON line as the answer.

   load bulk      --up | --down  --workers N  --bytes TOTAL
   load connect   --workers N  --seconds S  --count MOST  [--pause MS]
   load keepalive --workers N  --seconds S
   load beside    --down  --seconds S  --pause MS
   load hold      --workers N  --count N

   each with  --to HOST:PORT  [--upgrade HEX].  With --upgrade every connection begins with that
   frame and the frame that answers it, as towards an ingress. `hold` prints its line once all its
   connections are open, and closes them when its input ends. Any failure ends the program. */

#include "common.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define PATIENCE_S 20   /* for any single step of a connection */
#define BOUND_S 120     /* for the whole program, `hold` apart from its waiting */
#define SMALL_UP 112    /* a small request, with its head 128 bytes, ... */
#define SMALL_DOWN 128  /* ... and its answer */
#define RECEIPT_BYTES 1 /* the answer to an upload */
#define MOST_WORKERS 256
#define BULK_CHUNK (4u << 20) /* `beside` asks its bulk in such pieces, to end in time */

struct options {
    struct sockaddr_in to;
    unsigned char upgrade[FRAME_BYTES];
    size_t upgrade_bytes;
    bool up;
    unsigned workers;
    uint64_t count, bytes;
    double seconds;
    unsigned pause_ms;
};

struct samples {
    float *us;
    size_t count, room;
};

struct worker {
    pthread_t thread;
    int fd;                 /* opened before the time begins, where connecting is not measured */
    struct samples answers; /* time to the answer */
    uint64_t bytes;
    int *held;
    size_t held_count;
};

static struct options options = {.workers = 1, .count = UINT64_MAX, .seconds = 2};
static struct worker workers[MOST_WORKERS];
static atomic_uint_fast64_t tickets; /* connections that may still be begun */
static atomic_bool over;
static uint64_t began, deadline; /* of the measured time */
static unsigned char zeros[BATCH_BYTES];

/* One connection */

static void send_all(int fd, const void *data, size_t count)
{
    const unsigned char *at = data;

    while (count) {
        ssize_t sent = send(fd, at, count, MSG_NOSIGNAL);
        if (sent < 0)
            die("send");
        at += sent;
        count -= (size_t)sent;
    }
}

static void receive_exactly(int fd, void *into, size_t count)
{
    unsigned char *at = into;

    while (count) {
        ssize_t got = recv(fd, at, count, 0);
        if (got <= 0) {
            if (got == 0)
                errno = ECONNRESET;
            die("an answer was cut short");
        }
        at += got;
        count -= (size_t)got;
    }
}

/* MSG_TRUNC: the kernel drops the bytes instead of copying them. */
static void receive_and_drop(int fd, uint64_t count)
{
    while (count) {
        ssize_t got = recv(fd, NULL, count < BATCH_BYTES ? count : BATCH_BYTES, MSG_TRUNC);
        if (got <= 0) {
            if (got == 0)
                errno = ECONNRESET;
            die("a download was cut short");
        }
        count -= (uint64_t)got;
    }
}

static void exchange_upgrade(int fd)
{
    unsigned char frame[FRAME_BYTES];
    size_t count;

    if (!options.upgrade_bytes)
        return;
    send_all(fd, options.upgrade, options.upgrade_bytes);
    receive_exactly(fd, frame, 2);
    count = (size_t)frame[0] | (size_t)frame[1] << 8;
    if (count > sizeof frame)
        die("an upgrade answer is too long");
    receive_exactly(fd, frame, count);
}

static int open_connection(void)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    no_delay(fd);
    if (connect(fd, (struct sockaddr *)&options.to, sizeof options.to) < 0)
        die("connect");
    exchange_upgrade(fd);
    return fd;
}

/* Both sides end their stream, as a client and a server do that have nothing more to say. */
static void close_in_order(int fd)
{
    char rest[64];

    shutdown(fd, SHUT_WR);
    if (recv(fd, rest, sizeof rest, 0) != 0)
        die("no orderly end");
    close(fd);
}

static void ask(int fd, uint64_t up, uint64_t down)
{
    unsigned char small[HEAD_BYTES + SMALL_UP] = {0};
    struct request head = {htole64(up), htole64(down)};

    memcpy(small, &head, HEAD_BYTES);
    if (up <= SMALL_UP) {
        send_all(fd, small, HEAD_BYTES + up);
    } else {
        send_all(fd, small, HEAD_BYTES);
        for (uint64_t left = up; left; left -= left < BATCH_BYTES ? left : BATCH_BYTES)
            send_all(fd, zeros, left < BATCH_BYTES ? left : BATCH_BYTES);
    }
    receive_and_drop(fd, down);
}

/* What workers do */

static void keep(struct samples *samples, uint64_t since)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 4096;
        samples->us = realloc(samples->us, samples->room * sizeof *samples->us);
        if (!samples->us)
            die("memory");
    }
    samples->us[samples->count++] = (float)(now_ns() - since) / 1000;
}

static bool may_begin(void)
{
    uint64_t left = atomic_load(&tickets);

    while (left && now_ns() < deadline)
        if (atomic_compare_exchange_weak(&tickets, &left, left - 1))
            return true;
    return false;
}

static void take_a_break(void)
{
    if (options.pause_ms)
        usleep(options.pause_ms * 1000);
}

static void *work_bulk(void *argument)
{
    struct worker *self = argument;
    uint64_t bytes = options.bytes / options.workers;

    ask(self->fd, options.up ? bytes : 0, options.up ? RECEIPT_BYTES : bytes);
    self->bytes = bytes;
    return NULL;
}

static void *work_connect(void *argument)
{
    struct worker *self = argument;

    while (may_begin()) {
        uint64_t since = now_ns();
        int fd = open_connection();

        ask(fd, SMALL_UP, SMALL_DOWN);
        keep(&self->answers, since);
        close_in_order(fd);
        take_a_break();
    }
    return NULL;
}

static void *work_keepalive(void *argument)
{
    struct worker *self = argument;

    while (now_ns() < deadline) {
        uint64_t since = now_ns();

        ask(self->fd, SMALL_UP, SMALL_DOWN);
        keep(&self->answers, since);
        take_a_break();
    }
    atomic_store(&over, true);
    return NULL;
}

/* Beside one keep-alive connection, until that one is done. */
static void *work_bulk_beside(void *argument)
{
    struct worker *self = argument;

    while (!atomic_load(&over)) {
        ask(self->fd, options.up ? BULK_CHUNK : 0, options.up ? RECEIPT_BYTES : BULK_CHUNK);
        self->bytes += BULK_CHUNK;
    }
    return NULL;
}

static void *work_hold(void *argument)
{
    struct worker *self = argument;

    self->held = calloc(options.count, sizeof *self->held);
    if (!self->held)
        die("memory");
    while (may_begin()) {
        int fd = open_connection();

        ask(fd, SMALL_UP, SMALL_DOWN);
        self->held[self->held_count++] = fd;
    }
    return NULL;
}

/* All of them */

static int by_size(const void *a, const void *b)
{
    float first = *(const float *)a, second = *(const float *)b;

    return (first > second) - (first < second);
}

static float percentile(const struct samples *sorted, unsigned percent)
{
    return sorted->count ? sorted->us[(sorted->count - 1) * percent / 100] : 0;
}

static void print_result(void)
{
    struct samples all = {0};
    uint64_t bytes = 0, held = 0;
    double seconds = (double)(now_ns() - began) / 1e9;

    for (unsigned i = 0; i < options.workers; i++) {
        all.count += workers[i].answers.count;
        bytes += workers[i].bytes;
        held += workers[i].held_count;
    }
    all.us = calloc(all.count + 1, sizeof *all.us);
    if (!all.us)
        die("memory");
    for (unsigned i = 0, at = 0; i < options.workers; at += workers[i++].answers.count)
        if (workers[i].answers.count)
            memcpy(all.us + at, workers[i].answers.us, workers[i].answers.count * sizeof *all.us);
    qsort(all.us, all.count, sizeof *all.us, by_size);
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"held\": %llu, \"count\": %zu, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"max_us\": %.1f}\n",
           seconds, (unsigned long long)bytes, (unsigned long long)held, all.count,
           percentile(&all, 50), percentile(&all, 99), percentile(&all, 100));
    fflush(stdout);
}

static void run(void *(*work)(void *), void *(*work_of_the_first)(void *))
{
    began = now_ns();
    deadline = began + (uint64_t)(options.seconds * 1e9);
    for (unsigned i = 0; i < options.workers; i++)
        if (pthread_create(&workers[i].thread, NULL, i ? work : work_of_the_first, &workers[i]))
            die("a thread");
    for (unsigned i = 0; i < options.workers; i++)
        pthread_join(workers[i].thread, NULL);
    print_result();
}

/* With a connection open for each. */
static void run_connected(void *(*work)(void *), void *(*work_of_the_first)(void *))
{
    for (unsigned i = 0; i < options.workers; i++)
        workers[i].fd = open_connection();
    run(work, work_of_the_first);
    for (unsigned i = 0; i < options.workers; i++)
        close_in_order(workers[i].fd);
}

static void hold(void)
{
    char rest[64];

    options.seconds = BOUND_S;
    run(work_hold, work_hold);
    alarm(0); /* whoever started us ends us */
    while (read(STDIN_FILENO, rest, sizeof rest) > 0)
        continue;
    alarm(BOUND_S);
    for (unsigned i = 0; i < options.workers; i++)
        for (size_t k = 0; k < workers[i].held_count; k++)
            close_in_order(workers[i].held[k]);
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"to", required_argument, NULL, 't'},      {"upgrade", required_argument, NULL, 'g'},
        {"up", no_argument, NULL, 'u'},            {"down", no_argument, NULL, 'd'},
        {"workers", required_argument, NULL, 'w'}, {"count", required_argument, NULL, 'c'},
        {"bytes", required_argument, NULL, 'b'},   {"seconds", required_argument, NULL, 's'},
        {"pause", required_argument, NULL, 'p'},   {NULL, 0, NULL, 0}};
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 't': options.to = parse_address(optarg); break;
        case 'g':
            options.upgrade_bytes = parse_hex(optarg, options.upgrade, sizeof options.upgrade);
            break;
        case 'u': options.up = true; break;
        case 'd': options.up = false; break;
        case 'w': options.workers = (unsigned)atoi(optarg); break;
        case 'c': options.count = strtoull(optarg, NULL, 10); break;
        case 'b': options.bytes = strtoull(optarg, NULL, 10); break;
        case 's': options.seconds = atof(optarg); break;
        case 'p': options.pause_ms = (unsigned)atoi(optarg); break;
        default: exit(2);
        }
    }
    if (optind != argc - 1 || !options.workers || options.workers > MOST_WORKERS) {
        fprintf(stderr, "load MODE --to HOST:PORT ...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    const char *mode;

    parse(argc, argv);
    mode = argv[optind];
    alarm(BOUND_S);
    raise_descriptor_limit();
    atomic_store(&tickets, options.count);
    if (!strcmp(mode, "bulk")) {
        run_connected(work_bulk, work_bulk);
    } else if (!strcmp(mode, "connect")) {
        run(work_connect, work_connect);
    } else if (!strcmp(mode, "keepalive")) {
        run_connected(work_keepalive, work_keepalive);
    } else if (!strcmp(mode, "beside")) {
        options.workers = 2;
        run_connected(work_bulk_beside, work_keepalive);
    } else if (!strcmp(mode, "hold")) {
        hold();
    } else {
        fprintf(stderr, "no mode %s\n", mode);
        return 2;
    }
    return 0;
}
