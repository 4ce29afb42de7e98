/* A relay that makes its target distant: every byte arrives DELAY ms later, in order, each way.

   delay --listen HOST:PORT --to HOST:PORT --delay MS

   It limits nothing but the latency. The kernel completes a TCP handshake without us, so a client
   is connected at once; what it sends within one round trip of that is taken as if it had been
   sent at the end of that round trip, as over a real line. So connecting costs one round trip, and
   a connection that was made earlier does not pay for it. */

#include "common.h"

#include <getopt.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define EVENTS 64

struct line {
    int fd[2]; /* the client's, the target's */
    bool ended[2];
    bool dead;
    unsigned waiting; /* chunks under way */
    uint64_t connected; /* when a distant client would know that it is connected */
    struct end *ends[2];
};

struct end {
    struct line *line;
    int side;
};

struct chunk {
    struct chunk *next;
    struct line *line;
    int from;
    uint64_t due;
    size_t count; /* 0: the end */
    unsigned char data[];
};

static struct chunk *under_way; /* by when they are due; stable */
static uint64_t delay_ns;
static struct sockaddr_in target;
static int poller, timer;
static unsigned char buffer[BATCH_BYTES];

static void arm(void)
{
    struct itimerspec when = {0};

    if (under_way) {
        when.it_value.tv_sec = (time_t)(under_way->due / 1000000000u);
        when.it_value.tv_nsec = (long)(under_way->due % 1000000000u);
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void depart(struct line *line, int from, size_t count)
{
    struct chunk *chunk = malloc(sizeof *chunk + count);
    uint64_t now = now_ns();
    struct chunk **at = &under_way;

    if (!chunk)
        die("memory");
    chunk->line = line;
    chunk->from = from;
    chunk->count = count;
    chunk->due = (from == 0 && now < line->connected ? line->connected : now) + delay_ns;
    memcpy(chunk->data, buffer, count);
    while (*at && (*at)->due <= chunk->due)
        at = &(*at)->next;
    chunk->next = *at;
    *at = chunk;
    line->waiting++;
    if (under_way == chunk)
        arm();
}

/* Freed once nothing of it is under way: events of this turn may still name it before. */
static void release(struct line *line)
{
    if (line->waiting || !(line->dead || (line->ended[0] && line->ended[1])))
        return;
    for (int side = 0; side < 2; side++) {
        close(line->fd[side]);
        free(line->ends[side]);
    }
    free(line);
}

static void arrive(struct chunk *chunk)
{
    struct line *line = chunk->line;
    int fd = line->fd[!chunk->from];
    size_t sent = 0;

    if (!chunk->count)
        shutdown(fd, SHUT_WR);
    while (sent < chunk->count && !line->dead) {
        ssize_t count = send(fd, chunk->data + sent, chunk->count - sent, MSG_NOSIGNAL);
        if (count < 0)
            line->dead = true;
        else
            sent += (size_t)count;
    }
    line->waiting--;
    free(chunk);
    release(line);
}

static void arrive_all(void)
{
    while (under_way && under_way->due <= now_ns()) {
        struct chunk *first = under_way;
        under_way = first->next;
        arrive(first);
    }
    arm();
}

static void receive(struct end *end)
{
    struct line *line = end->line;
    ssize_t count = recv(line->fd[end->side], buffer, sizeof buffer, 0);

    if (count <= 0) {
        count = 0; /* a reset, too, is an end here */
        line->ended[end->side] = true;
        epoll_ctl(poller, EPOLL_CTL_DEL, line->fd[end->side], NULL);
    }
    depart(line, end->side, (size_t)count);
}

static void begin(int client)
{
    struct line *line = calloc(1, sizeof *line);

    if (!line)
        die("memory");
    line->fd[0] = client;
    line->fd[1] = socket(AF_INET, SOCK_STREAM, 0);
    line->connected = now_ns() + 2 * delay_ns;
    if (connect(line->fd[1], (struct sockaddr *)&target, sizeof target) < 0)
        die("the target");
    for (int side = 0; side < 2; side++) {
        struct end *end = malloc(sizeof *end);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};

        if (!end)
            die("memory");
        end->line = line;
        end->side = side;
        line->ends[side] = end;
        no_delay(line->fd[side]);
        epoll_ctl(poller, EPOLL_CTL_ADD, line->fd[side], &event);
    }
}

static void run(int listener)
{
    struct epoll_event events[EVENTS];
    int *special[] = {&listener, &timer};

    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    for (size_t i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = special[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, *special[i], &event);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        bool due = false;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &timer)
                due = true; /* after the others: it may free what they name */
            else if (events[i].data.ptr == &listener)
                begin(accept(listener, NULL, NULL));
            else
                receive(events[i].data.ptr);
        }
        if (due)
            arrive_all();
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"listen", required_argument, NULL, 'l'},
                                          {"to", required_argument, NULL, 't'},
                                          {"delay", required_argument, NULL, 'd'},
                                          {NULL, 0, NULL, 0}};
    int name, listener = -1;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (name == 'l')
            listener = listen_at(optarg, 0);
        else if (name == 't')
            target = parse_address(optarg);
        else if (name == 'd')
            delay_ns = (uint64_t)(atof(optarg) * 1e6);
        else
            return 2;
    }
    if (listener < 0 || !target.sin_port) {
        fprintf(stderr, "delay --listen HOST:PORT --to HOST:PORT --delay MS\n");
        return 2;
    }
    run(listener);
}
