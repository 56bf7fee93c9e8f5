/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See hold_kernel.h. The try holds one stream, then two, four and eight, and each time wants another one to copy and to
 * write a word meanwhile: as many streams as were held when that last came to pass are held at once later. It gives up
 * after a while in two ways, since each can be of no use: a thread of the host releases the words, for launches that
 * wait; the kernels themselves stop, for words of which they do not see the host's writes.
 */
#include "config.h"

#include "lib/dev/hold_kernel.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST_DEVICES = 64, WHY_BYTES = 300, WORDS_OF_LINE = 8 };

#define TRY_NS    (2 * MDL_NS_PER_S)
#define BEGIN_NS  (MDL_NS_PER_S / 2)
#define TRY_TURNS ((uint64_t)1 << 22) /* each a read across the bus */
#define PATTERN   0x0123456789abcdefu

/* turns: in a try, after so many it gives up; it tells by `state` that it has begun, and that it gave up.
 *
 * The rest of a kernel's waiting must not slow down what else the device does: it sleeps between two looks where it
 * can. Volatile accesses to the host's memory pass by the device's caches. */
static const char text[] =
    "typedef unsigned long long u64;\n"
    "#if defined(__HIP_DEVICE_COMPILE__)\n"
    "#define PAUSE __builtin_amdgcn_s_sleep(8);\n"
    "#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700\n"
    "#define PAUSE __nanosleep(100);\n"
    "#else\n"
    "#define PAUSE\n"
    "#endif\n"
    "extern \"C\" __global__ void mdl_hold_wait(volatile u64 *word, u64 value, u64 turns, volatile u64 *state) {\n"
    "  u64 turn = 0;\n"
    "  if (turns) { *state = 1; __threadfence_system(); }\n"
    "  while ((long long)(*word - value) < 0) {\n"
    "    if (turns && ++turn == turns) { *state = 2; break; }\n"
    "    PAUSE\n"
    "  }\n"
    "  __threadfence_system();\n"
    "}\n"
    "extern \"C\" __global__ void mdl_hold_write(volatile u64 *word, u64 value) {\n"
    "  __threadfence_system();\n"
    "  *word = value;\n"
    "  __threadfence_system();\n"
    "}\n";

struct mdl_waiter {
    const struct mdl_device *ops;
    int ordinal;
    void *module, *wait, *write;
    int places;
    char why[WHY_BYTES]; /* there are none */
    pthread_mutex_t lock;
    int any; /* places that are taken for any stream */
    struct {
        mdl_dev_stream stream;
        int calls; /* 0: free */
    } place[MDL_WAITERS_MOST];
};

/* ---- launching ---- */

static medleyResult_t wait_for(const struct mdl_waiter *w, mdl_dev_stream stream, uint64_t *word, uint64_t value,
                               uint64_t turns, uint64_t *state)
{
    void *args[] = {&word, &value, &turns, &state};
    const size_t sizes[] = {sizeof(void *), sizeof(value), sizeof(turns), sizeof(void *)};
    const struct mdl_grid grid = {.blocks = 1, .threads = 1, .args = args, .sizes = sizes, .nargs = 4};

    return w->ops->kernel_launch(w->ops, w->wait, &grid, stream);
}

medleyResult_t mdl_waiter_wait(const struct mdl_waiter *w, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    return wait_for(w, stream, word, value, 0, word);
}

medleyResult_t mdl_waiter_write(const struct mdl_waiter *w, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    void *args[] = {&word, &value};
    const size_t sizes[] = {sizeof(void *), sizeof(value)};
    const struct mdl_grid grid = {.blocks = 1, .threads = 1, .args = args, .sizes = sizes, .nargs = 2};

    return w->ops->kernel_launch(w->ops, w->write, &grid, stream);
}

/* ---- trying out ---- */

enum { MOST_STREAMS = MDL_WAITERS_MOST + 1, GATE = 0, SEEN = 1, STATE = 2, IN = 3, RESULT = 4, LINES_EACH = 5 };
enum { BEGUN = 1 }; /* of a waiting kernel's state */

struct trial {
    const struct mdl_waiter *w;
    uint64_t *words; /* pinned */
    void *device;
    mdl_dev_stream stream[MOST_STREAMS];
    int nstreams;
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool over, late; /* by the lock */
    bool blind;      /* kernels have waited to their own end */
};

static uint64_t *word_of(const struct trial *t, int i, int line)
{
    return t->words + (size_t)(i * LINES_EACH + line) * WORDS_OF_LINE;
}

static uint64_t look(const struct trial *t, int i, int line)
{
    return __atomic_load_n(word_of(t, i, line), __ATOMIC_ACQUIRE); /* pairs with the device's writes */
}

static void open_gates(const struct trial *t)
{
    for (int i = 0; i < MOST_STREAMS; i++)
        __atomic_store_n(word_of(t, i, GATE), 1, __ATOMIC_RELEASE); /* pairs with the waiting kernel */
}

/* Opens the gates when it has taken too long: a launch that waits for its kernel would wait for ever. */
static void *guard(void *arg)
{
    struct trial *t = arg;
    struct timespec until;
    bool late = false;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TRY_NS / MDL_NS_PER_S;
    pthread_mutex_lock(&t->lock);
    while (!t->over && !late) late = pthread_cond_timedwait(&t->end, &t->lock, &until) != 0;
    t->late = late;
    if (late) open_gates(t);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static bool is_late(struct trial *t)
{
    bool late;

    pthread_mutex_lock(&t->lock);
    late = t->late;
    pthread_mutex_unlock(&t->lock);
    return late;
}

static medleyResult_t append_waits(struct trial *t, int n)
{
    for (int i = 0; i < n; i++) {
        MDL_TRY(wait_for(t->w, t->stream[i], word_of(t, i, GATE), 1, TRY_TURNS, word_of(t, i, STATE)));
        MDL_TRY(mdl_waiter_write(t->w, t->stream[i], word_of(t, i, SEEN), 1));
    }
    return medleySuccess;
}

static medleyResult_t append_others(struct trial *t, int n)
{
    const struct mdl_device *d = t->w->ops;

    MDL_TRY(d->copy(d, t->device, word_of(t, n, IN), sizeof(uint64_t), MDL_COPY_H2D, t->stream[n]));
    MDL_TRY(d->copy(d, word_of(t, n, RESULT), t->device, sizeof(uint64_t), MDL_COPY_D2H, t->stream[n]));
    return mdl_waiter_write(t->w, t->stream[n], word_of(t, n, SEEN), 1);
}

static medleyResult_t sync_all(const struct trial *t)
{
    medleyResult_t res = medleySuccess;

    for (int i = 0; i < t->nstreams; i++) {
        medleyResult_t one = t->w->ops->stream_sync(t->w->ops, t->stream[i]);
        if (res == medleySuccess) res = one;
    }
    return res;
}

static bool was_held(const struct trial *t, int n)
{
    for (int i = 0; i < n; i++)
        if (look(t, i, SEEN)) return false;
    return look(t, n, RESULT) == PATTERN;
}

static bool was_released(const struct trial *t, int n)
{
    for (int i = 0; i < n; i++)
        if (!look(t, i, SEEN) || look(t, i, STATE) != BEGUN) return false;
    return true;
}

static bool have_begun(const struct trial *t, int n)
{
    for (int i = 0; i < n; i++)
        if (!look(t, i, STATE)) return false;
    return true;
}

static void nap(void)
{
    const struct timespec ts = {.tv_nsec = 20000};

    nanosleep(&ts, NULL);
}

/* Only when all n kernels are on the device the next stream gets its work: it would slip in before them. A device that
 * has no room for the last of them never begins it. */
static medleyResult_t see(struct trial *t, int n, bool *held)
{
    uint64_t until;

    *held = false;
    MDL_TRY(append_waits(t, n));
    until = mdl_now_ns() + BEGIN_NS;
    while (!have_begun(t, n) && !is_late(t) && mdl_now_ns() < until) nap();
    if (!have_begun(t, n)) return medleySuccess;
    MDL_TRY(append_others(t, n));
    until = mdl_now_ns() + BEGIN_NS;
    while (!look(t, n, SEEN) && !is_late(t) && mdl_now_ns() < until) nap();
    *held = look(t, n, SEEN) && was_held(t, n);
    return medleySuccess;
}

/* Holds n streams, and wants the next one to go on meanwhile. */
static medleyResult_t hold_so_many(struct trial *t, int n, bool *good)
{
    medleyResult_t res, end;
    bool held;

    while (t->nstreams <= n) {
        MDL_TRY(t->w->ops->stream_create(t->w->ops, &t->stream[t->nstreams]));
        t->nstreams++;
    }
    memset(t->words, 0, sizeof(uint64_t) * MOST_STREAMS * LINES_EACH * WORDS_OF_LINE);
    *word_of(t, n, IN) = PATTERN;
    res = see(t, n, &held);
    open_gates(t);
    end = sync_all(t);
    MDL_TRY(res);
    MDL_TRY(end);
    *good = held && !is_late(t) && was_released(t, n);
    t->blind = held && !*good;
    return medleySuccess;
}

static medleyResult_t find_places(struct trial *t, int *places)
{
    const struct mdl_device *d = t->w->ops;
    void *address = NULL;
    bool good = true;

    MDL_TRY(d->kernel_address(d, t->words, &address));
    if (address != t->words)
        return mdl_error(medleyInvalidUsage, "kernels of %s:%d find the host's memory at other addresses", d->vendor,
                         t->w->ordinal);
    *places = 0;
    for (int n = 1; n <= MDL_WAITERS_MOST && good; n *= 2) {
        MDL_TRY(hold_so_many(t, n, &good));
        if (good) *places = n;
    }
    if (*places) return medleySuccess;
    return mdl_error(medleyInvalidUsage, "while a kernel waits on %s:%d %s", d->vendor, t->w->ordinal,
                     t->blind ? "it does not see what the host writes" : "nothing else goes on");
}

static medleyResult_t with_guard(struct trial *t, int *places)
{
    pthread_condattr_t attr;
    pthread_t thread;
    medleyResult_t res;

    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->end, &attr);
    pthread_condattr_destroy(&attr);
    if (mdl_thread_start(guard, t, &thread) != 0) {
        res = mdl_error(medleySystemError, "no thread to guard waiting kernels with");
    } else {
        res = find_places(t, places);
        pthread_mutex_lock(&t->lock);
        t->over = true;
        pthread_cond_signal(&t->end);
        pthread_mutex_unlock(&t->lock);
        pthread_join(thread, NULL);
    }
    pthread_cond_destroy(&t->end);
    pthread_mutex_destroy(&t->lock);
    return res;
}

static medleyResult_t try_out(struct mdl_waiter *w)
{
    const struct mdl_device *d = w->ops;
    struct trial t = {.w = w};
    medleyResult_t res =
        d->alloc_pinned(d, sizeof(uint64_t) * MOST_STREAMS * LINES_EACH * WORDS_OF_LINE, (void **)&t.words);

    if (res != medleySuccess) return res;
    res = d->alloc(d, sizeof(uint64_t), &t.device);
    if (res != medleySuccess) goto free_words;
    res = with_guard(&t, &w->places);
    for (int i = 0; i < t.nstreams; i++) (void)d->stream_destroy(d, t.stream[i]);
    (void)d->free(d, t.device);
free_words:
    (void)d->free_pinned(d, t.words);
    return res;
}

/* ---- compiling ---- */

static medleyResult_t load(struct mdl_waiter *w)
{
    const struct mdl_device *d = w->ops;
    medleyResult_t res = d->module_load(d, text, &w->module);

    if (res != medleySuccess) return res;
    res = d->kernel_find(d, w->module, "mdl_hold_wait", &w->wait);
    if (res == medleySuccess) res = d->kernel_find(d, w->module, "mdl_hold_write", &w->write);
    if (res == medleySuccess) res = try_out(w);
    if (res != medleySuccess) (void)d->module_unload(d, w->module);
    return res;
}

/* A failure is told by `why`, and is nobody's error: its words must not stand for that of a later call. */
static void make(struct mdl_waiter *w)
{
    char before[MDL_ERROR_TEXT_BYTES];
    medleyResult_t res;

    snprintf(before, sizeof(before), "%s", mdl_error_text());
    res = load(w);
    if (res != medleySuccess) {
        snprintf(w->why, sizeof(w->why), "%.280s", mdl_error_text());
        w->places = 0;
    }
    (void)mdl_error_set(res, before);
}

static struct {
    pthread_mutex_t lock;
    int n;
    struct mdl_waiter waiter[MOST_DEVICES];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct mdl_waiter *find(const struct mdl_dev *dev)
{
    struct mdl_waiter *w;

    for (int i = 0; i < all.n; i++)
        if (all.waiter[i].ops == dev->ops && all.waiter[i].ordinal == dev->ordinal) return &all.waiter[i];
    if (all.n == MOST_DEVICES) return NULL;
    w = &all.waiter[all.n++];
    w->ops = dev->ops;
    w->ordinal = dev->ordinal;
    pthread_mutex_init(&w->lock, NULL);
    make(w);
    return w;
}

struct mdl_waiter *mdl_waiter_of(const struct mdl_dev *dev, char *why, size_t why_bytes)
{
    struct mdl_waiter *w;

    if (!(dev->caps & MDL_DEV_KERNEL_WORDS)) {
        snprintf(why, why_bytes,
                 dev->caps & MDL_DEV_KERNELS ? "kernels of %s cannot wait for the host here"
                                             : "%s has no run-time compiler",
                 dev->ops->vendor);
        return NULL;
    }
    pthread_mutex_lock(&all.lock);
    w = find(dev);
    if (!w || !w->places) snprintf(why, why_bytes, "%s", w ? w->why : "too many devices");
    pthread_mutex_unlock(&all.lock);
    return w && w->places ? w : NULL;
}

/* ---- places ---- */

int mdl_waiter_places(const struct mdl_waiter *w) { return w->places; }

static int taken(const struct mdl_waiter *w)
{
    int n = w->any;

    for (int i = 0; i < MDL_WAITERS_MOST; i++) n += w->place[i].calls > 0;
    return n;
}

/* Where the stream is; -1: nowhere. */
static int place_of(const struct mdl_waiter *w, mdl_dev_stream stream)
{
    for (int i = 0; i < MDL_WAITERS_MOST; i++)
        if (w->place[i].calls && w->place[i].stream == stream) return i;
    return -1;
}

static int free_place(const struct mdl_waiter *w)
{
    int i = 0;

    if (taken(w) >= w->places) return -1;
    while (w->place[i].calls) i++;
    return i;
}

bool mdl_waiter_take(struct mdl_waiter *w, mdl_dev_stream stream)
{
    int i;

    pthread_mutex_lock(&w->lock);
    i = place_of(w, stream);
    if (i < 0) i = free_place(w);
    if (i >= 0) {
        w->place[i].stream = stream;
        w->place[i].calls++;
    }
    pthread_mutex_unlock(&w->lock);
    return i >= 0;
}

void mdl_waiter_give(struct mdl_waiter *w, mdl_dev_stream stream)
{
    pthread_mutex_lock(&w->lock);
    w->place[place_of(w, stream)].calls--;
    pthread_mutex_unlock(&w->lock);
}

bool mdl_waiter_take_any(struct mdl_waiter *w)
{
    bool free_one;

    pthread_mutex_lock(&w->lock);
    free_one = taken(w) < w->places;
    w->any += free_one;
    pthread_mutex_unlock(&w->lock);
    return free_one;
}

void mdl_waiter_give_any(struct mdl_waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->any--;
    pthread_mutex_unlock(&w->lock);
}
