/* The far side of the benchmark: an mTLS ingress that answers by itself, and a plain upstream.

   far --tls HOST:PORT --plain HOST:PORT --cert FILE --key FILE --ca FILE --answer HEX

   One thread and epoll, so that a core goes into OpenSSL and the kernel and little else. What comes
   to --plain is served as it is (common.h says how): the upstream of another ingress. What comes to
   --tls must show a certificate of --ca; its upgrade request is answered with --answer whatever it
   asks for, and what follows is served. Sessions are resumed by tickets. SIGUSR1: one JSON line
   that says how many handshakes were full and how many were resumed since the last one. */

#include "common.h"

#include <fcntl.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#define RECORD_BYTES 16384
#define BATCHES_A_TURN 4 /* then others have their turn */
#define EVENTS 256

enum state {
    HANDSHAKE, /* TLS */
    UPGRADE,   /* its request is awaited */
    SERVE,     /* requests of common.h */
    ENDED      /* the peer has ended; what is queued goes out, then it is closed */
};

struct connection {
    int fd;
    SSL *ssl; /* NULL: plain */
    BIO *in, *out;
    size_t out_sent; /* of what is in `out` */
    enum state state;
    uint32_t interest;
    unsigned char start[FRAME_BYTES]; /* of a frame or a head that is not whole yet */
    size_t start_bytes;
    uint64_t up, down;      /* of the running request: still to come, to answer then */
    uint64_t down_released; /* may be sent now */
};

static SSL_CTX *context;
static unsigned char answer[FRAME_BYTES];
static size_t answer_bytes;
static int poller;
static unsigned long full, resumed;
static unsigned char cipher[BATCH_BYTES], plain[BATCH_BYTES], zeros[BATCH_BYTES];

/* What is said */

static void write_tls(struct connection *c, const void *data, size_t count)
{
    if (SSL_write(c->ssl, data, (int)count) != (int)count)
        ERR_clear_error(); /* the peer has broken TLS: reading will show it */
}

/* Takes bytes towards one whole `wanted`; whether it is whole. */
static bool gather(struct connection *c, size_t wanted, const unsigned char **at, size_t *left)
{
    size_t missing = wanted - c->start_bytes;
    size_t count = *left < missing ? *left : missing;

    memcpy(c->start + c->start_bytes, *at, count);
    c->start_bytes += count;
    *at += count;
    *left -= count;
    return c->start_bytes == wanted;
}

static bool take_upgrade(struct connection *c, const unsigned char **at, size_t *left)
{
    size_t length;

    if (c->start_bytes < 2 && !gather(c, 2, at, left))
        return true;
    length = 2 + ((size_t)c->start[0] | (size_t)c->start[1] << 8);
    if (length > sizeof c->start)
        return false;
    if (gather(c, length, at, left)) {
        c->start_bytes = 0;
        c->state = SERVE;
        write_tls(c, answer, answer_bytes);
    }
    return true;
}

static void take_request(struct connection *c, const unsigned char **at, size_t *left)
{
    struct request head;
    uint64_t count;

    if (!c->up && !c->down) {
        if (!gather(c, HEAD_BYTES, at, left))
            return;
        c->start_bytes = 0;
        memcpy(&head, c->start, sizeof head);
        c->up = le64toh(head.up);
        c->down = le64toh(head.down);
    }
    count = *left < c->up ? *left : c->up;
    c->up -= count;
    *at += count;
    *left -= count;
    if (!c->up) {
        c->down_released += c->down;
        c->down = 0;
    }
}

/* Whether the peer keeps to what was agreed. */
static bool consume(struct connection *c, const unsigned char *data, size_t count)
{
    while (count) {
        if (c->state == SERVE)
            take_request(c, &data, &count);
        else if (!take_upgrade(c, &data, &count))
            return false;
    }
    return true;
}

/* Sending. Each returns whether the connection lives. */

static bool flush_tls(struct connection *c)
{
    char *data;
    size_t count = (size_t)BIO_get_mem_data(c->out, &data);

    while (c->out_sent < count) {
        ssize_t sent = send(c->fd, data + c->out_sent, count - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        c->out_sent += (size_t)sent;
    }
    (void)BIO_reset(c->out);
    c->out_sent = 0;
    return true;
}

static bool queued(struct connection *c)
{
    return c->ssl && BIO_pending(c->out) > 0;
}

static bool produce_tls(struct connection *c)
{
    for (int i = 0; i < BATCHES_A_TURN; i++) {
        if (!flush_tls(c))
            return false;
        if (queued(c) || !c->down_released)
            return true;
        for (size_t filled = 0; c->down_released && filled < BATCH_BYTES;) {
            uint64_t count = c->down_released < RECORD_BYTES ? c->down_released : RECORD_BYTES;
            write_tls(c, zeros, count);
            c->down_released -= count;
            filled += count;
        }
    }
    return flush_tls(c);
}

static bool produce_plain(struct connection *c)
{
    for (int i = 0; i < BATCHES_A_TURN && c->down_released; i++) {
        uint64_t count = c->down_released < BATCH_BYTES ? c->down_released : BATCH_BYTES;
        ssize_t sent = send(c->fd, zeros, count, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        c->down_released -= (uint64_t)sent;
    }
    return true;
}

/* Receiving. Each returns whether the connection lives. */

static bool shake_hands(struct connection *c)
{
    int done = SSL_do_handshake(c->ssl);

    if (done == 1) {
        c->state = UPGRADE;
        if (SSL_session_reused(c->ssl))
            resumed++;
        else
            full++;
        return true;
    }
    if (SSL_get_error(c->ssl, done) == SSL_ERROR_WANT_READ)
        return true;
    ERR_print_errors_fp(stderr);
    return false;
}

static bool receive_tls(struct connection *c, size_t count)
{
    int got;

    if (BIO_write(c->in, cipher, (int)count) != (int)count)
        return false;
    if (c->state == HANDSHAKE && !shake_hands(c))
        return false;
    if (c->state == HANDSHAKE)
        return true;
    while ((got = SSL_read(c->ssl, plain, sizeof plain)) > 0)
        if (!consume(c, plain, (size_t)got))
            return false;
    switch (SSL_get_error(c->ssl, got)) {
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_ZERO_RETURN:
        c->state = ENDED;
        return true;
    default:
        ERR_clear_error();
        return false;
    }
}

static bool receive(struct connection *c)
{
    ssize_t count = recv(c->fd, cipher, sizeof cipher, 0);

    if (count < 0)
        return errno == EAGAIN;
    if (count == 0) {
        c->state = ENDED;
        return true;
    }
    return c->ssl ? receive_tls(c, (size_t)count) : consume(c, cipher, (size_t)count);
}

/* Connections */

static void watch(struct connection *c, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = c};

    if (interest == c->interest)
        return;
    epoll_ctl(poller, c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->interest = interest;
}

static void give_up(struct connection *c)
{
    close(c->fd);
    SSL_free(c->ssl); /* with its BIOs */
    free(c);
}

static void serve(struct connection *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->state != ENDED) {
        if (!receive(c)) {
            if (c->ssl)
                flush_tls(c); /* an alert */
            give_up(c);
            return;
        }
        if (c->state == ENDED && c->ssl && SSL_is_init_finished(c->ssl))
            SSL_shutdown(c->ssl);
    }
    if (!(c->ssl ? produce_tls(c) : produce_plain(c)) || events & EPOLLERR) {
        give_up(c);
        return;
    }
    if (queued(c) || c->down_released)
        watch(c, c->state == ENDED ? EPOLLOUT : EPOLLIN | EPOLLOUT);
    else if (c->state == ENDED)
        give_up(c);
    else
        watch(c, EPOLLIN);
}

static void begin(int fd, bool tls)
{
    struct connection *c = calloc(1, sizeof *c);

    if (!c)
        die("memory");
    no_delay(fd);
    c->fd = fd;
    c->state = SERVE;
    if (tls) {
        c->state = HANDSHAKE;
        c->ssl = SSL_new(context);
        c->in = BIO_new(BIO_s_mem());
        c->out = BIO_new(BIO_s_mem());
        if (!c->ssl || !c->in || !c->out)
            die("memory");
        BIO_set_mem_eof_return(c->in, -1);
        SSL_set_bio(c->ssl, c->in, c->out);
        SSL_set_accept_state(c->ssl);
    }
    watch(c, EPOLLIN);
}

static void accept_all(int listener, bool tls)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        begin(fd, tls);
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept");
}

static void tell(int signals)
{
    struct signalfd_siginfo which;

    if (read(signals, &which, sizeof which) < 0)
        return;
    printf("{\"full\": %lu, \"resumed\": %lu}\n", full, resumed);
    fflush(stdout);
    full = resumed = 0;
}

/* Start */

static SSL_CTX *make_context(const char *cert, const char *key, const char *ca)
{
    SSL_CTX *made = SSL_CTX_new(TLS_server_method());
    const unsigned char name[] = "bench";

    if (!made || SSL_CTX_use_certificate_chain_file(made, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(made, ca, NULL) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
    SSL_CTX_set_verify(made, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_id_context(made, name, sizeof name);
    SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS);
    return made;
}

static int watched_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, 0);
}

static void run(int tls, int unprotected, int signals)
{
    struct epoll_event events[EVENTS];
    int *special[] = {&tls, &unprotected, &signals};

    poller = epoll_create1(0);
    for (size_t i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = special[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, *special[i], &event);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *who = events[i].data.ptr;
            if (who == &signals)
                tell(signals);
            else if (who == &tls || who == &unprotected)
                accept_all(*(int *)who, who == &tls);
            else
                serve(who, events[i].events);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"tls", required_argument, NULL, 't'}, {"plain", required_argument, NULL, 'p'},
        {"cert", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'},
        {"ca", required_argument, NULL, 'a'},   {"answer", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0}};
    const char *given[256] = {NULL};
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1)
        if (name != '?')
            given[name] = optarg;
    for (int i = 0; names[i].name; i++)
        if (!given[names[i].val]) {
            fprintf(stderr, "far: --%s is missing\n", names[i].name);
            return 2;
        }
    raise_descriptor_limit();
    answer_bytes = parse_hex(given['r'], answer, sizeof answer);
    context = make_context(given['c'], given['k'], given['a']);
    run(listen_at(given['t'], SOCK_NONBLOCK), listen_at(given['p'], SOCK_NONBLOCK),
        watched_signal());
}
