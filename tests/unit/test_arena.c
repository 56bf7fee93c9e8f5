/* SPDX-License-Identifier: Apache-2.0 */
/* Arenas: pieces, their users in several processes, and that memory goes back to the kernel when the last one leaves,
 * whoever that is. */
#include "config.h"
#include "lib/mem/mem.h"
#include "tests/unit/deny.h"
#include "tests/unit/unit.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 256 * 1024, THREADS = 4 };

static struct mdl_arena_view cut(size_t len, uint64_t *arena)
{
    struct mdl_arena_view v;
    ck_assert(mdl_arena_cut(len, arena, &v));
    ck_assert_uint_ge(v.len, len);
    return v;
}

/* Of the whole file: 512-byte blocks that are backed. */
static long long backed(int fd)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    return (long long)st.st_blocks * 512;
}

START_TEST(pieces_are_apart)
{
    uint64_t arena, again;
    struct mdl_arena_view a = cut(LEN, &arena), b = cut(LEN, &again);
    ck_assert_uint_eq(arena, again);
    ck_assert_uint_ne(a.place, b.place);
    ck_assert_int_eq(mdl_arena_fd(arena), a.fd);
    ck_assert_int_eq(mdl_arena_fd(arena + 1), -1);
    memset(a.base, 1, LEN);
    for (int i = 0; i < LEN; i++) ck_assert_int_eq(((char *)b.base)[i], 0);
    ck_assert_int_eq(fcntl(a.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    mdl_arena_return(&a, true);
    ck_assert_int_eq(mdl_arena_fd(arena), b.fd);
    mdl_arena_return(&b, true);
    ck_assert_int_eq(mdl_arena_fd(arena), -1);
}
END_TEST

START_TEST(the_last_user_gives_back)
{
    uint64_t arena;
    struct mdl_arena_view keep = cut(4096, &arena), own = cut(LEN, &arena), peer, late;
    long long before = backed(keep.fd);
    ck_assert(mdl_arena_join(keep.fd, own.place, own.len, own.len, &peer));
    memset(own.base, 7, LEN);
    ck_assert_int_eq(((char *)peer.base)[LEN - 1], 7);
    uint64_t place = own.place, len = own.len;
    mdl_arena_return(&own, true);
    /* Its peer may still read. */
    ck_assert_int_eq(((char *)peer.base)[LEN - 1], 7);
    ck_assert_int_ge(backed(keep.fd), before + LEN);
    mdl_arena_leave(&peer);
    ck_assert_int_lt(backed(keep.fd), before);
    mdl_arena_leave(&peer); /* nothing */
    ck_assert(!mdl_arena_join(keep.fd, place, len, len, &late));
    mdl_arena_return(&keep, true);
}
END_TEST

/* A peer of another process has the descriptor only. */
START_TEST(another_process_gives_back)
{
    uint64_t arena;
    int ready[2], gone[2];
    char byte;
    struct mdl_arena_view keep = cut(4096, &arena), own = cut(LEN, &arena);
    ck_assert(pipe(ready) == 0 && pipe(gone) == 0);
    long long before = backed(keep.fd);
    memset(own.base, 7, LEN);
    pid_t pid = fork();
    if (pid == 0) {
        struct mdl_arena_view peer;
        bool good = mdl_arena_join(keep.fd, own.place, own.len, 4096, &peer) && *(char *)peer.base == 7;
        close(gone[1]);
        if (write(ready[1], "", 1) != 1 || read(gone[0], &byte, 1) != 0) _exit(1);
        mdl_arena_leave(&peer);
        _exit(!good);
    }
    close(gone[0]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    mdl_arena_return(&own, true);
    ck_assert_int_ge(backed(keep.fd), before + LEN);
    close(gone[1]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_lt(backed(keep.fd), before);
    mdl_arena_return(&keep, true);
}
END_TEST

START_TEST(bad_places)
{
    uint64_t arena;
    struct mdl_arena_view own = cut(LEN, &arena), v = {0};
    struct stat st;
    int fd = own.fd;
    ck_assert_int_eq(fstat(fd, &st), 0);
    uint64_t size = (uint64_t)st.st_size;
    ck_assert(!mdl_arena_join(fd, 0, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place + 1, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place, LEN + 1, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place, 0, 0, &v));
    ck_assert(!mdl_arena_join(fd, own.place, LEN, 2 * LEN, &v));
    ck_assert(!mdl_arena_join(fd, size - LEN, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, size, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place, size, LEN, &v));
    ck_assert(!mdl_arena_join(fd, (uint64_t)0 - 4096, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place, (size_t)0 - 4096, LEN, &v));
    ck_assert(!mdl_arena_join(-1, own.place, LEN, LEN, &v));
    ck_assert(!mdl_arena_join(fd, own.place + 16 * LEN, LEN, LEN, &v)); /* no piece: nobody uses it */
    ck_assert_ptr_null(v.base);
    mdl_arena_return(&own, true);
}
END_TEST

/* A segment out of it has no descriptor to give, and says that it exists; without memfd it is as before. */
START_TEST(segments)
{
    struct mdl_segment *s, *many, *alone;
    struct mdl_mem mem;
    ck_assert_int_eq(mdl_segment_create_cut(LEN, 2, &s), medleySuccess);
    ck_assert_int_eq(mdl_segment_create_cut(LEN, MDL_ARENA_RANKS + 1, &many), medleySuccess);
    ck_assert_int_eq(mdl_segment_create_cut(LEN, 1, &alone), medleySuccess);
    ck_assert(s->arena != 0 && s->fd < 0 && many->arena == 0 && many->fd >= 0 && alone->arena == 0);
    errno = 0;
    ck_assert_int_eq(mdl_segment_dup_fd(s->id), -1);
    ck_assert_int_eq(errno, EPERM);
    mdl_mem_describe(s->base, LEN, &mem);
    ck_assert_uint_eq(mem.segment, 0);
    ck_assert(!mdl_segment_is_limited(s));
    mdl_segment_withdraw(s);
    memset(s->base, 1, LEN);
    mdl_segment_destroy(s);
    mdl_segment_destroy(many);
    mdl_segment_destroy(alone);
    const struct deny no_memfd = {.call = SYS_memfd_create, .err = EPERM};
    if (!deny_calls(&no_memfd, 1)) return;
    ck_assert_int_eq(mdl_segment_create_cut(LEN, 2, &s), medleySuccess);
    ck_assert_uint_eq(s->arena, 0);
    mdl_segment_destroy(s);
}
END_TEST

/* A file so large would raise a signal. */
START_TEST(limited_files)
{
    struct rlimit limit = {1 << 20, 1 << 20};
    struct mdl_segment *s;
    uint64_t arena;
    struct mdl_arena_view v;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(!mdl_arena_cut(LEN, &arena, &v));
    ck_assert_int_eq(mdl_segment_create_cut(LEN, 2, &s), medleySuccess);
    ck_assert(s->arena == 0 && s->fd >= 0);
    mdl_segment_destroy(s);
}
END_TEST

static void *come_and_go(void *arg)
{
    for (int i = 0; i < 300; i++) {
        uint64_t arena;
        struct mdl_arena_view own, peer;
        if (!mdl_arena_cut(8192, &arena, &own) || *(int *)own.base) return "cut";
        *(int *)own.base = i;
        if (!mdl_arena_join(mdl_arena_fd(arena), own.place, own.len, own.len, &peer)) return "join";
        if (*(int *)peer.base != i) return "other memory";
        if (i % 2) mdl_arena_leave(&peer);
        mdl_arena_return(&own, true);
        if (!(i % 2)) peer.fd = -1, mdl_arena_leave(&peer); /* the arena may be gone */
    }
    return NULL;
}

START_TEST(from_several_threads)
{
    pthread_t threads[THREADS];
    void *wrong;
    for (int i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &wrong);
        ck_assert_msg(!wrong, "%s", (char *)wrong);
    }
}
END_TEST

UNIT_MAIN("arena", pieces_are_apart, the_last_user_gives_back, another_process_gives_back, bad_places, segments,
          limited_files, from_several_threads)
