/* Fake vLLM replicas: several ports, one thread, answers that cost next to nothing.
 *
 *     backend FIRST_PORT COUNT
 *
 * Each port answers chat completions and completions, as JSON or as an SSE stream of `max_tokens` chunks. Like an
 * engine, a replica has a step clock: at each step every one of its streams gets one chunk, in a send of its own.
 * The step time is 0 (as fast as the sockets take it) until GET /control?step_us=N says otherwise.
 *
 * GET /stats gives, over all ports, the requests so far and how many went where the previous request of the same
 * prompt group ("group-N" in the body) had gone: 1/COUNT of them under round robin, nearly all under prefix affinity.
 */
#include "http.h"

#include <signal.h>
#include <sys/timerfd.h>

enum { MAX_REPLICAS = 64, MAX_GROUPS = 4096, READ_BYTES = 65536, CHUNK_BYTES = 512 };

typedef enum { LISTENER, CLOCK, CONNECTION } Kind;

typedef struct Replica Replica;

typedef struct Connection {
    Kind kind;
    int fd;
    Replica *replica;
    Buffer in, out;
    size_t body_at, whole_bytes; /* of the request at the start of `in`, once its head is complete; 0 before */
    bool close_after, blocked;
    unsigned tokens_left; /* of the stream in progress; 0: none */
    bool chat;
    uint64_t request;
    char chunk[CHUNK_BYTES]; /* each chunk of the stream but the last */
    size_t chunk_bytes;
    struct Connection *next, **link; /* the replica's list of streams in progress */
} Connection;

typedef struct {
    Kind kind;
    int fd;
    Replica *replica;
} Source;

struct Replica {
    int port;
    Source listener, clock;
    Connection *streams;
    bool due; /* a step is */
    unsigned running;
    uint64_t requests;
};

static Replica replicas[MAX_REPLICAS];
static int replica_count, epoll, last_replica[MAX_GROUPS];
static long step_us;
static uint64_t request_count, group_requests, affine_requests;

static void begin_stream(Connection *c, unsigned tokens) {
    Replica *r = c->replica;
    c->tokens_left = tokens;
    c->next = r->streams;
    c->link = &r->streams;
    if (c->next) c->next->link = &c->next;
    r->streams = c;
    r->running++;
}

static void leave_streams(Connection *c) {
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->replica->running--;
}

static void close_connection(Connection *c) {
    if (c->tokens_left) leave_streams(c);
    close(c->fd);
    free(c->in.bytes);
    free(c->out.bytes);
    free(c);
}

static void answer(Connection *c, int status, const char *type, const char *body) {
    char head[256];
    size_t length = strlen(body);
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\nserver: uvicorn\r\n\r\n", status,
                     status == 200 ? "OK" : "Not Found", type, length);
    append(&c->out, head, (size_t)n);
    append(&c->out, body, length);
}

static void answer_json(Connection *c, const char *body) { answer(c, 200, "application/json", body); }

static void answer_whole(Connection *c, unsigned tokens) {
    char body[1024];
    snprintf(body, sizeof body,
             "{\"id\":\"cmpl-%d-%llu\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"fake-model\",\"choices\":"
             "[{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":256,"
             "\"total_tokens\":%u,\"completion_tokens\":%u}}",
             c->replica->port, (unsigned long long)c->request, c->chat ? "chat.completion" : "text_completion",
             c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"The shuttle carries the weft.\"}"
                     : "\"text\":\"The shuttle carries the weft.\"",
             256 + tokens, tokens);
    answer_json(c, body);
}

/* One chunk of a stream, HTTP chunk framing included, into `to`. Returns its length in bytes. */
static size_t write_chunk(const Connection *c, char to[CHUNK_BYTES], const char *finish_reason) {
    char event[CHUNK_BYTES - 8];
    int n = snprintf(event, sizeof event,
                     "data: {\"id\":\"cmpl-%d-%llu\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"fake-model\","
                     "\"choices\":[{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
                     c->replica->port, (unsigned long long)c->request,
                     c->chat ? "chat.completion.chunk" : "text_completion",
                     c->chat ? "\"delta\":{\"role\":\"assistant\",\"content\":\" thread\"}" : "\"text\":\" thread\"",
                     finish_reason);
    return (size_t)snprintf(to, CHUNK_BYTES, "%x\r\n%s\r\n", n, event);
}

static void append_end(Connection *c) {
    static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    char last[CHUNK_BYTES];
    append(&c->out, last, write_chunk(c, last, "\"stop\""));
    append(&c->out, end, sizeof end - 1);
}

static void answer_stream(Connection *c, unsigned tokens) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "transfer-encoding: chunked\r\ncache-control: no-cache\r\nserver: uvicorn\r\n\r\n";
    append(&c->out, head, sizeof head - 1);
    c->chunk_bytes = write_chunk(c, c->chunk, "null");
    begin_stream(c, tokens);
}

/* What stands behind `"key":` in a JSON body, or NULL. */
static const char *body_value(const char *body, const char *key) {
    const char *at = strstr(body, key);
    return at ? at + strlen(key) + strspn(at + strlen(key), " ") : NULL;
}

static void count_affinity(Connection *c, const char *body) {
    const char *at = strstr(body, "group-");
    long group = at ? atol(at + 6) : -1;
    if (group < 0 || group >= MAX_GROUPS) return;
    int here = (int)(c->replica - replicas) + 1;
    if (last_replica[group]) group_requests++;
    if (last_replica[group] == here) affine_requests++;
    last_replica[group] = here;
}

static void generate(Connection *c, bool chat, const char *body) {
    const char *stream = body_value(body, "\"stream\":"), *limit = body_value(body, "\"max_tokens\":");
    if (!limit) limit = body_value(body, "\"max_completion_tokens\":");
    unsigned tokens = limit ? (unsigned)atoi(limit) : 16;
    c->chat = chat;
    c->request = ++request_count;
    c->replica->requests++;
    count_affinity(c, body);
    if (stream && *stream == 't' && tokens) answer_stream(c, tokens);
    else answer_whole(c, tokens);
}

static void answer_metrics(Connection *c) {
    char body[2048];
    snprintf(body, sizeof body,
             "# TYPE vllm:num_requests_running gauge\n"
             "vllm:num_requests_running{engine=\"0\",model_name=\"fake-model\"} %u.0\n"
             "# TYPE vllm:num_requests_waiting gauge\n"
             "vllm:num_requests_waiting{engine=\"0\",model_name=\"fake-model\"} 0.0\n"
             "# TYPE vllm:kv_cache_usage_perc gauge\n"
             "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"fake-model\"} 0.1\n"
             "# TYPE vllm:cache_config_info gauge\n"
             "vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",enable_prefix_caching=\"True\","
             "engine=\"0\",num_gpu_blocks=\"65536\"} 1.0\n"
             "# TYPE vllm:request_success counter\n"
             "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\",model_name=\"fake-model\"} %llu.0\n",
             c->replica->running, (unsigned long long)c->replica->requests);
    answer(c, 200, "text/plain; version=0.0.4; charset=utf-8", body);
}

static void set_step(const char *path) {
    const char *at = strstr(path, "step_us=");
    step_us = at ? atol(at + 8) : 0;
    for (int i = 0; i < replica_count; i++) { /* the replicas' steps are spread over the step time */
        long step_ns = step_us * 1000, first_ns = step_ns * (i + 1) / replica_count;
        struct itimerspec every = {.it_interval = {step_ns / 1000000000, step_ns % 1000000000},
                                   .it_value = {first_ns / 1000000000, first_ns % 1000000000}};
        timerfd_settime(replicas[i].clock.fd, 0, &every, NULL);
    }
}

static void answer_control(Connection *c, const char *path) {
    char body[256];
    if (!strncmp(path, "/control", 8)) set_step(path);
    snprintf(body, sizeof body, "{\"step_us\":%ld,\"requests\":%llu,\"group_requests\":%llu,\"affine_requests\":%llu}",
             step_us, (unsigned long long)request_count, (unsigned long long)group_requests,
             (unsigned long long)affine_requests);
    answer_json(c, body);
}

static bool is(const char *path, const char *name) {
    return !strncmp(path, name, strlen(name)) && strchr("?", path[strlen(name)]);
}

static void route(Connection *c, const char *path, const char *body) {
    static const char models[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"fake-model\",\"object\":\"model\",\"created\":1700000000,"
        "\"owned_by\":\"vllm\",\"root\":\"fake-model\",\"parent\":null,\"max_model_len\":131072}]}";
    static const char server[] =
        "{\"model_path\":\"fake-model\",\"served_model_name\":\"fake-model\",\"model_id\":\"fake-model\","
        "\"tokenizer_path\":\"fake-model\",\"is_generation\":true,\"tp_size\":1,\"dp_size\":1,"
        "\"max_running_requests\":256,\"disaggregation_mode\":\"null\",\"version\":\"0.5.0\"}";
    if (is(path, "/v1/chat/completions")) generate(c, true, body);
    else if (is(path, "/v1/completions")) generate(c, false, body);
    else if (is(path, "/health")) answer(c, 200, "text/plain", "");
    else if (is(path, "/metrics")) answer_metrics(c);
    else if (is(path, "/v1/models")) answer_json(c, models);
    else if (is(path, "/version")) answer_json(c, "{\"version\":\"0.32.0\"}");
    else if (strstr(path, "server_info") || strstr(path, "model_info")) answer_json(c, server);
    else if (is(path, "/control") || is(path, "/stats")) answer_control(c, path);
    else answer(c, 404, "application/json", "{\"detail\":\"Not Found\"}");
}

/* Finds the end of the head of the request at the start of `in`. False while it is not all there. */
static bool read_head(Connection *c) {
    if (!buffered(&c->in)) return false;
    char *begin = c->in.bytes + c->in.start, *end = memmem(begin, buffered(&c->in), "\r\n\r\n", 4);
    if (!end) return false;
    end[2] = 0;
    const char *length = header(begin, "content-length:"), *connection = header(begin, "connection:");
    c->body_at = (size_t)(end + 4 - begin);
    c->whole_bytes = c->body_at + (length ? strtoul(length, NULL, 10) : 0);
    c->close_after = connection && !strncasecmp(connection, "close", 5);
    return true;
}

/* Answers the request at the start of `in`. False when there is no whole one. */
static bool take_request(Connection *c) {
    if (!c->whole_bytes && !read_head(c)) return false;
    if (buffered(&c->in) < c->whole_bytes) return false;
    char *begin = c->in.bytes + c->in.start, *path = strchr(begin, ' '), *end = path ? strchr(path + 1, ' ') : NULL;
    if (!end) { /* not HTTP/1.1: some routers try whether a replica speaks gRPC */
        c->close_after = true;
        return false;
    }
    char *behind = begin + c->whole_bytes, first_behind = *behind; /* reads leave room for this byte */
    *end = *behind = 0;
    route(c, path + 1, begin + c->body_at);
    *behind = first_behind;
    c->in.start += c->whole_bytes;
    c->whole_bytes = 0;
    return true;
}

/* Answers what has been asked, in order, and sends it. False when the connection has been closed. */
static bool serve(Connection *c) {
    while (!c->tokens_left && take_request(c)) continue;
    int sent = send_buffered(c->fd, &c->out);
    if (sent < 0 || (sent > 0 && c->close_after && !c->tokens_left)) {
        close_connection(c);
        return false;
    }
    if (c->blocked == (sent == 0)) return true;
    c->blocked = sent == 0;
    watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | (c->blocked ? EPOLLOUT : 0), c);
    return true;
}

static void on_readable(Connection *c) {
    make_room(&c->in, READ_BYTES + 1);
    ssize_t n = recv(c->fd, c->in.bytes + c->in.end, READ_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close_connection(c);
    c->in.end += (size_t)n;
    serve(c);
}

/* One engine step: a chunk for each stream whose client takes what it is given. False when there was none. */
static bool step(Replica *r) {
    bool any = false;
    for (Connection *c = r->streams, *next; c; c = next) {
        next = c->next;
        if (c->blocked) continue;
        any = true;
        if (--c->tokens_left) {
            append(&c->out, c->chunk, c->chunk_bytes);
        } else {
            append_end(c);
            leave_streams(c);
        }
        serve(c);
    }
    return any;
}

static void accept_all(Replica *r) {
    int fd;
    while ((fd = accept4(r->listener.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        Connection *c = calloc(1, sizeof *c);
        if (!c) die("out of memory");
        *c = (Connection){.kind = CONNECTION, .fd = fd, .replica = r};
        send_small_packets_at_once(fd);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static void start_replica(Replica *r, int port) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
        die("port %d: %s", port, strerror(errno));
    r->port = port;
    r->listener = (Source){LISTENER, fd, r};
    r->clock = (Source){CLOCK, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), r};
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, &r->listener);
    watch(epoll, EPOLL_CTL_ADD, r->clock.fd, EPOLLIN, &r->clock);
}

static void dispatch(struct epoll_event *event) {
    Source *source = event->data.ptr;
    Connection *c = event->data.ptr;
    uint64_t expirations;
    if (source->kind == LISTENER) accept_all(source->replica);
    else if (source->kind == CLOCK) source->replica->due = read(source->fd, &expirations, sizeof expirations) > 0;
    else if (source->kind == CONNECTION) {
        if (event->events & EPOLLOUT && !serve(c)) return;
        if (event->events & ~(uint32_t)EPOLLOUT) on_readable(c);
    }
}

int main(int count, char **arguments) {
    if (count != 3) die("usage: backend FIRST_PORT COUNT");
    int first_port = atoi(arguments[1]);
    replica_count = atoi(arguments[2]);
    if (replica_count < 1 || replica_count > MAX_REPLICAS) die("COUNT must be 1 to %d", MAX_REPLICAS);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    for (int i = 0; i < replica_count; i++) start_replica(&replicas[i], first_port + i);
    for (bool moving = false;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, moving ? 0 : -1);
        for (int i = 0; i < n; i++) dispatch(&events[i]);
        moving = false;
        for (Replica *r = replicas; r < replicas + replica_count; r++) {
            if (!step_us) moving |= step(r);
            else if (r->due) r->due = false, step(r);
        }
    }
}
