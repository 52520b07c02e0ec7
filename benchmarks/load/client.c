/* Load generator for OpenAI-style chat completions: one thread, keep-alive connections, JSON on stdout.
 *
 *     client -p PORT [-c CONNECTIONS] [-d SECONDS] [-w WARM_UP_SECONDS] [-R REQUESTS_PER_S] [-r SEED] [-H HEADER]
 *            [-s BODY_BYTES] [-f SHARED_SHARE] [-g GROUPS] [-S] [-t TOKENS]
 *
 * Without -R the loop is closed: each connection asks again as soon as it has its answer. With -R it is open: requests
 * arrive at random (Poisson) whatever the answers do, and latency counts from the arrival, waiting for a connection
 * included.
 *
 * A body is BODY_BYTES long. Its system message, SHARED_SHARE of the text, is that of one of GROUPS groups; the user
 * message is new in every request. With -S answers are SSE streams of TOKENS chunks; a stream that ends short of them
 * is a failure.
 */
#include "http.h"

#include <math.h>
#include <signal.h>
#include <sys/prctl.h>

enum { READ_BYTES = 65536, HEAD_BYTES = 8192, TAIL_BYTES = 7, TEXT_BYTES = 1 << 20, STEPS_PER_DOUBLING = 128, STEPS = 64 * 128 };

static const char END_OF_CHUNKS[TAIL_BYTES + 1] = "\r\n0\r\n\r\n";

typedef struct {
    int fd;
    bool busy, in_body;
    Buffer out;
    char head[HEAD_BYTES];
    size_t head_bytes;
    int status;
    bool chunked, close_after;
    size_t body_left;      /* bytes, when not chunked */
    char tail[TAIL_BYTES]; /* the last bytes received */
    unsigned events;       /* SSE events in this answer */
    uint64_t start_ns;
} Connection;

/* Counts by size: 128 steps per doubling, so that a percentile is at most 0.8 % off. */
typedef struct {
    uint64_t counts[STEPS], total, sum_ns;
} Histogram;

static struct {
    int port, connections, groups, tokens;
    double seconds, warm_up_s, rate_per_s, shared_share;
    size_t body_bytes;
    bool stream;
    const char *header;
} options = {.connections = 1, .seconds = 1, .body_bytes = 1024, .shared_share = 0.75, .groups = 64, .tokens = 16,
             .header = ""};

static int epoll;
static uint64_t random_state = 88172645463325252u, begin_ns, end_ns, next_arrival_ns;
static Connection **idle;
static int idle_count;
static char **shared_texts, *text; /* the groups' system messages; what user messages are cut from */
static Histogram latency, first_event;
static uint64_t requests, failures, chunks, all_requests, all_chunks;
static char first_failure[256];

static uint64_t random64(void) { /* xorshift */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static size_t histogram_step(uint64_t ns) {
    if (ns < STEPS_PER_DOUBLING) return ns;
    int shift = 63 - __builtin_clzll(ns) - 7;
    return (size_t)((shift + 1) * STEPS_PER_DOUBLING) + ((ns >> shift) - STEPS_PER_DOUBLING);
}

static void record(Histogram *h, uint64_t ns) {
    h->counts[histogram_step(ns)]++;
    h->total++;
    h->sum_ns += ns;
}

static double percentile_us(const Histogram *h, double share) {
    uint64_t rank = (uint64_t)ceil(share * (double)h->total), seen = 0;
    for (size_t i = 0; i < STEPS; i++) {
        if ((seen += h->counts[i]) < rank || !seen) continue;
        if (i < STEPS_PER_DOUBLING) return (double)i / 1e3;
        size_t shift = i / STEPS_PER_DOUBLING - 1;
        return (double)((STEPS_PER_DOUBLING + i % STEPS_PER_DOUBLING) << shift) / 1e3;
    }
    return 0;
}

/* Random common words, exactly `bytes` long. */
static void write_words(char *to, size_t bytes) {
    static const char *words[] = {
        "the",    "of",      "and",    "to",     "in",     "is",      "that",   "for",     "was",   "with",    "file",
        "test",   "return",  "value",  "error",  "class",  "import",  "list",   "string",  "call",  "model",   "agent",
        "tool",   "search",  "answer", "step",   "result", "check",   "path",   "line",    "first", "because", "before",
        "change", "function", "should", "number", "when",  "other",   "which",  "there",   "about", "make",    "time",
        "look",   "write",   "people", "water",  "day",    "through", "number", "between", "order", "thread",  "loom"};
    for (size_t at = 0; at < bytes;) {
        const char *word = words[random64() % (sizeof words / sizeof *words)];
        while (*word && at < bytes) to[at++] = *word++;
        if (at < bytes) to[at++] = ' ';
    }
}

static void build_request(Connection *c) {
    static const char between[] = "\"},{\"role\":\"user\",\"content\":\"", end[] = "\"}]}";
    int group = (int)(random64() % (uint64_t)options.groups);
    char start[512], body[256];
    int body_start = snprintf(body, sizeof body,
                              "{\"model\":\"fake-model\",\"max_tokens\":%d,\"temperature\":0,\"stream\":%s,\"messages\":"
                              "[{\"role\":\"system\",\"content\":\"",
                              options.tokens, options.stream ? "true" : "false");
    size_t frame = (size_t)body_start + sizeof between - 1 + sizeof end - 1, prompt = options.body_bytes - frame;
    size_t shared = (size_t)((double)prompt * options.shared_share), own = prompt - shared;
    int head = snprintf(start, sizeof start,
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
                        "accept: */*\r\n%s%scontent-length: %zu\r\n\r\n",
                        options.port, options.header, *options.header ? "\r\n" : "", options.body_bytes);
    append(&c->out, start, (size_t)head);
    append(&c->out, body, (size_t)body_start);
    append(&c->out, shared_texts[group], shared);
    append(&c->out, between, sizeof between - 1);
    snprintf(start, sizeof start, "%016llx", (unsigned long long)random64());
    append(&c->out, start, 16);
    append(&c->out, text + random64() % (TEXT_BYTES - own), own - 16);
    append(&c->out, end, sizeof end - 1);
}

static void flush(Connection *c) {
    int sent = send_buffered(c->fd, &c->out);
    if (sent == 0) watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT, c);
}

static void start(Connection *c, uint64_t arrival_ns) {
    build_request(c);
    c->busy = true;
    c->in_body = false;
    c->head_bytes = 0;
    c->status = 0;
    c->events = 0;
    c->start_ns = arrival_ns;
    flush(c);
}

static void dial(Connection *c) {
    struct sockaddr_in address = loopback(options.port);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("port %d: %s", options.port, strerror(errno));
    send_small_packets_at_once(c->fd);
    watch(epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
    c->out.start = c->out.end = 0;
}

static bool measured(uint64_t ns) { return ns >= begin_ns && ns < end_ns; }

/* Ends the request in progress; `whole`: its answer came to its proper end. */
static void finish(Connection *c, bool whole, uint64_t now) {
    bool good = whole && c->status == 200 && (!options.stream || c->events > (unsigned)options.tokens);
    all_requests++;
    if (measured(now)) {
        requests += good;
        failures += !good;
        if (good) record(&latency, now - c->start_ns);
    }
    if (!good && !*first_failure)
        snprintf(first_failure, sizeof first_failure, "status %d, %s, %u events", c->status,
                 whole ? "whole answer" : "connection closed", c->events);
    c->busy = false;
    idle[idle_count++] = c;
    if (whole && !c->close_after) return;
    close(c->fd);
    dial(c);
}

static void count_events(Connection *c, const char *bytes, size_t n, uint64_t now) {
    const char *at = bytes, *end = bytes + n;
    unsigned events = 0;
    if (c->tail[TAIL_BYTES - 1] == '\n' && *bytes == '\n') events++;
    while ((at = memmem(at, (size_t)(end - at), "\n\n", 2))) events++, at += 2;
    if (!c->events && events && measured(now)) record(&first_event, now - c->start_ns);
    c->events += events;
    all_chunks += events;
    if (measured(now)) chunks += events;
}

static void keep_tail(Connection *c, const char *bytes, size_t n) {
    size_t take = n < TAIL_BYTES ? n : TAIL_BYTES;
    memmove(c->tail, c->tail + take, TAIL_BYTES - take);
    memcpy(c->tail + TAIL_BYTES - take, bytes + n - take, take);
}

/* JSON escapes line ends, so END_OF_CHUNKS stands nowhere but at the end. True when the body is complete. */
static bool take_body(Connection *c, const char *bytes, size_t n, uint64_t now) {
    if (n && options.stream) count_events(c, bytes, n, now);
    keep_tail(c, bytes, n);
    if (c->chunked) return !memcmp(c->tail, END_OF_CHUNKS, TAIL_BYTES);
    c->body_left -= n < c->body_left ? n : c->body_left;
    return !c->body_left;
}

/* Takes what belongs to the head; returns how many bytes that were. Sets `in_body` when the head is complete. */
static size_t take_head(Connection *c, const char *bytes, size_t n) {
    size_t before = c->head_bytes, room = HEAD_BYTES - 1 - before, take = n < room ? n : room;
    memcpy(c->head + before, bytes, take);
    c->head[c->head_bytes = before + take] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (take < n) die("the head of an answer exceeds %d bytes", HEAD_BYTES);
        return n;
    }
    end[2] = 0;
    const char *length = header(c->head, "content-length:"), *encoding = header(c->head, "transfer-encoding:");
    const char *connection = header(c->head, "connection:");
    c->status = atoi(c->head + sizeof "HTTP/1.1");
    c->chunked = encoding && !strncasecmp(encoding, "chunked", 7);
    c->body_left = length ? strtoul(length, NULL, 10) : c->chunked ? 0 : SIZE_MAX;
    c->close_after = connection && !strncasecmp(connection, "close", 5);
    c->in_body = true;
    memcpy(c->tail, "\n\r\n\r\n\r\n" + 1, TAIL_BYTES);
    return (size_t)(end + 4 - c->head) - before;
}

static void on_readable(Connection *c) {
    static char bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    uint64_t now = now_ns();
    if (n <= 0) {
        if (c->busy) {
            finish(c, false, now);
        } else {
            close(c->fd);
            dial(c);
        }
        return;
    }
    if (!c->busy) die("bytes without a request: %.80s", bytes);
    size_t head = c->in_body ? 0 : take_head(c, bytes, (size_t)n);
    if (c->in_body && take_body(c, bytes + head, (size_t)n - head, now)) finish(c, true, now);
}

static uint64_t arrival_gap_ns(void) {
    double uniform = (double)(random64() >> 11) / 9007199254740992.0;
    return (uint64_t)(-log(1 - uniform) / options.rate_per_s * 1e9);
}

static void start_what_is_due(uint64_t now) {
    while (idle_count && now < end_ns && (!options.rate_per_s || next_arrival_ns <= now)) {
        start(idle[--idle_count], options.rate_per_s ? next_arrival_ns : now);
        if (options.rate_per_s) next_arrival_ns += arrival_gap_ns();
    }
}

static void run(void) {
    static const uint64_t tick_ns = 10000000, grace_ns = 3000000000;
    for (;;) {
        uint64_t now = now_ns(), wait_ns = tick_ns;
        if (now >= end_ns + grace_ns || (now >= end_ns && idle_count == options.connections)) return;
        start_what_is_due(now);
        if (options.rate_per_s && idle_count && next_arrival_ns < now + tick_ns)
            wait_ns = next_arrival_ns > now ? next_arrival_ns - now : 0;
        struct epoll_event events[256];
        struct timespec wait = {.tv_nsec = (long)wait_ns};
        int n = epoll_pwait2(epoll, events, 256, &wait, NULL);
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
                flush(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) on_readable(c);
        }
    }
}

static void report(void) {
    uint64_t streams = options.stream ? all_requests : 0; /* the event that ends a stream is no chunk */
    printf("{\"requests\":%llu,\"failures\":%llu,\"first_failure\":\"%s\",\"requests_per_s\":%.1f,\"chunks_per_s\":%.1f,"
           "\"all_requests\":%llu,\"all_chunks\":%llu,",
           (unsigned long long)requests, (unsigned long long)failures, first_failure,
           (double)requests / options.seconds, (double)(chunks - (options.stream ? requests : 0)) / options.seconds,
           (unsigned long long)all_requests, (unsigned long long)(all_chunks - streams));
    printf("\"latency_us\":{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f},\"first_event_us\":{\"p50\":%.1f,"
           "\"p99\":%.1f}}\n",
           latency.total ? (double)latency.sum_ns / (double)latency.total / 1e3 : 0, percentile_us(&latency, 0.5),
           percentile_us(&latency, 0.9), percentile_us(&latency, 0.99), percentile_us(&first_event, 0.5),
           percentile_us(&first_event, 0.99));
}

static void prepare(void) {
    text = malloc(TEXT_BYTES);
    write_words(text, TEXT_BYTES);
    shared_texts = calloc((size_t)options.groups, sizeof *shared_texts);
    for (int i = 0; i < options.groups; i++) {
        shared_texts[i] = malloc(options.body_bytes + 32);
        int name = sprintf(shared_texts[i], "group-%d ", i);
        write_words(shared_texts[i] + name, options.body_bytes);
    }
    idle = calloc((size_t)options.connections, sizeof *idle);
    for (int i = 0; i < options.connections; i++) {
        Connection *c = idle[idle_count++] = calloc(1, sizeof *c);
        dial(c);
    }
}

int main(int count, char **arguments) {
    for (int option; (option = getopt(count, arguments, "p:c:d:w:R:r:H:s:f:g:St:")) != -1;) switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'w': options.warm_up_s = atof(optarg); break;
        case 'R': options.rate_per_s = atof(optarg); break;
        case 'r': random_state += strtoull(optarg, NULL, 10) * 2654435761u; break;
        case 'H': options.header = optarg; break;
        case 's': options.body_bytes = strtoul(optarg, NULL, 10); break;
        case 'f': options.shared_share = atof(optarg); break;
        case 'g': options.groups = atoi(optarg); break;
        case 'S': options.stream = true; break;
        case 't': options.tokens = atoi(optarg); break;
        default: return 2;
        }
    if (options.port < 1 || options.connections < 1 || options.groups < 1 || options.body_bytes < 384 ||
        options.body_bytes >= TEXT_BYTES || options.shared_share < 0 ||
        options.shared_share > (options.body_bytes < 65536 ? 0.9 : 0.99))
        die("needs -p PORT; CONNECTIONS and GROUPS of at least 1, BODY_BYTES of 384 to 2^20, SHARED_SHARE of 0 to 0.9, or to "
            "0.99 of 64 KiB and more");
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    epoll = epoll_create1(0);
    prepare();
    begin_ns = now_ns() + (uint64_t)(options.warm_up_s * 1e9);
    end_ns = begin_ns + (uint64_t)(options.seconds * 1e9);
    next_arrival_ns = now_ns();
    run();
    report();
}
