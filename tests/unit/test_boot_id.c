/* SPDX-License-Identifier: Apache-2.0 */
/* Unique ids: the rules of MEDLEY_COMM_ID and its key, and communicators that are made through it. */
#include "config.h"
#include "lib/boot/id.h"
#include "tests/unit/boot_world.h"
#include "tests/unit/leaks.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

static struct world world;

static void fixed_config(struct mdl_config *cfg, const char *comm_id, const char *key)
{
    world_config(cfg);
    snprintf(cfg->comm_id.s, sizeof(cfg->comm_id.s), "%s", comm_id);
    snprintf(cfg->comm_key.s, sizeof(cfg->comm_key.s), "%s", key);
}

/* ---- ids by themselves ---- */

#define KEY "0123456789abcdef"

START_TEST(made_ids_differ)
{
    struct mdl_config cfg;
    medleyUniqueId a, b;
    struct mdl_id id;
    world_config(&cfg);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &a), medleySuccess);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &b), medleySuccess);
    ck_assert_int_eq(mdl_boot_id_check(&a), medleySuccess);
    ck_assert_int_ne(memcmp(a.internal + 8, b.internal + 8, 32), 0);
    ck_assert_int_eq(mdl_id_read(&a, &id), medleySuccess);
    ck_assert_int_eq(id.flags, 0);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, NULL), medleyInvalidArgument);
}
END_TEST

START_TEST(fixed_ids_are_equal)
{
    struct mdl_config cfg;
    medleyUniqueId a, b;
    struct mdl_id id;
    fixed_config(&cfg, "10.9.8.7:5000", KEY);
    int threads = leaks_threads();
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &a), medleySuccess);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &b), medleySuccess);
    ck_assert_int_eq(memcmp(&a, &b, sizeof(a)), 0);
    ck_assert_int_eq(leaks_threads(), threads); /* nobody serves it yet */
    ck_assert_int_eq(mdl_id_read(&a, &id), medleySuccess);
    ck_assert_int_eq(id.flags, MDL_ID_FIXED);
    snprintf(cfg.comm_key.s, sizeof(cfg.comm_key.s), "%s", "another key, long enough");
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &b), medleySuccess);
    ck_assert_int_ne(memcmp(a.internal + 8, b.internal + 8, 32), 0);
    fixed_config(&cfg, "10.9.8.7:5001", KEY);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &b), medleySuccess);
    ck_assert_int_ne(memcmp(a.internal + 8, b.internal + 8, 32), 0);
}
END_TEST

START_TEST(debian_loopback_name)
{
    struct mdl_config cfg;
    struct mdl_id id;
    fixed_config(&cfg, "127.0.1.1:5000", "");
    ck_assert_int_eq(mdl_id_fixed(&cfg, &id), medleySuccess);
    char text[64];
    mdl_id_addresses(&id, text, sizeof(text));
    ck_assert_str_eq(text, "127.0.0.1:5000");
}
END_TEST

static void refused(const struct mdl_config *cfg, medleyResult_t code, const char *say)
{
    medleyUniqueId id;
    memset(&id, 7, sizeof(id));
    ck_assert_int_eq(mdl_boot_id_create(cfg, &id), code);
    ck_assert_msg(strstr(mdl_error_text(), say) != NULL, "%s", mdl_error_text());
    ck_assert_ptr_null(strstr(mdl_error_text(), KEY));
    ck_assert_int_eq(id.internal[0], 7);
}

START_TEST(comm_id_rules)
{
    struct mdl_config cfg;
    fixed_config(&cfg, "10.9.8.7:5000", "");
    refused(&cfg, medleyInvalidUsage, "set MEDLEY_COMM_KEY or MEDLEY_COMM_KEY_FILE");
    fixed_config(&cfg, "10.9.8.7:5000", "0123456789abcde");
    refused(&cfg, medleyInvalidUsage, "fewer than 16");
    fixed_config(&cfg, "127.0.0.1:5000", "short");
    refused(&cfg, medleyInvalidUsage, "fewer than 16");
    fixed_config(&cfg, "0.0.0.0:5000", KEY);
    refused(&cfg, medleyInvalidArgument, "real address");
    fixed_config(&cfg, "[::]:5000", KEY);
    refused(&cfg, medleyInvalidArgument, "real address");
    static const char *const malformed[] = {"127.0.0.1",   "127.0.0.1:",      ":5000",
                                            "127.0.0.1:0", "127.0.0.1:65536", "x y:1"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]) - 1; i++) {
        fixed_config(&cfg, malformed[i], KEY);
        refused(&cfg, medleyInvalidArgument, malformed[i]);
        refused(&cfg, medleyInvalidArgument, "MEDLEY_COMM_ID");
        refused(&cfg, medleyInvalidArgument, "from 1 to 65535");
    }
    fixed_config(&cfg, "127.0.0.1:5000", KEY);
    snprintf(cfg.socket_family.s, sizeof(cfg.socket_family.s), "AF_INET6");
    refused(&cfg, medleyInvalidArgument, "family");
}
END_TEST

/* ---- key files ---- */

static char key_path[] = "/tmp/medley-key-XXXXXX";

static void key_file(struct mdl_config *cfg, const char *text, mode_t mode)
{
    fixed_config(cfg, "10.9.8.7:5000", "");
    int fd = open(key_path, O_WRONLY | O_TRUNC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
    snprintf(cfg->comm_key_file.s, sizeof(cfg->comm_key_file.s), "%s", key_path);
}

START_TEST(key_files)
{
    struct mdl_config cfg;
    medleyUniqueId from_file, from_text;
    int fd = mkstemp(key_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    key_file(&cfg, KEY "\r\n", 0600);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &from_file), medleySuccess);
    fixed_config(&cfg, "10.9.8.7:5000", KEY);
    ck_assert_int_eq(mdl_boot_id_create(&cfg, &from_text), medleySuccess);
    ck_assert_int_eq(memcmp(&from_file, &from_text, sizeof(from_file)), 0);

    static const mode_t open_modes[] = {0640, 0620, 0610, 0604, 0602, 0601, 0666};
    for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
        key_file(&cfg, KEY, open_modes[i]);
        refused(&cfg, medleyInvalidUsage, "chmod 600");
    }
    key_file(&cfg, "too short\n", 0400);
    refused(&cfg, medleyInvalidUsage, "fewer than 16");
    char long_text[5000];
    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = 0;
    key_file(&cfg, long_text, 0600);
    refused(&cfg, medleyInvalidUsage, "longer than 4096");
    key_file(&cfg, KEY, 0600);
    snprintf(cfg.comm_key.s, sizeof(cfg.comm_key.s), "%s", KEY);
    refused(&cfg, medleyInvalidUsage, "both set");
    fixed_config(&cfg, "10.9.8.7:5000", "");
    snprintf(cfg.comm_key_file.s, sizeof(cfg.comm_key_file.s), "/");
    refused(&cfg, medleyInvalidUsage, "not a regular file");
    snprintf(cfg.comm_key_file.s, sizeof(cfg.comm_key_file.s), "/no/such/file");
    refused(&cfg, medleySystemError, "/no/such/file");
    unlink(key_path);
}
END_TEST

/* ---- communicators from MEDLEY_COMM_ID ---- */

/* A port of loopback that was free a moment ago; the descriptor keeps it until closed. */
static int take_port(char *comm_id, size_t bytes)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    snprintf(comm_id, bytes, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

static void free_port(char *comm_id, size_t bytes) { close(take_port(comm_id, bytes)); }

/* So that what a sanitizer starts with the first thread is there. */
static void warm_up(void)
{
    world_init(&world, 1);
    world_make_id(&world);
    world_run(&world);
    world_all_joined(&world);
}

/* Each rank computes the id itself. */
static void compute_ids(struct world *w)
{
    for (int i = 0; i < w->nthreads; i++) {
        struct world_rank *r = &w->ranks[i];
        static medleyUniqueId ids[WORLD_MAX];
        if (!r->cfg.init_timeout) r->cfg = w->cfg;
        ck_assert_int_eq(mdl_boot_id_create(&r->cfg, &ids[i]), medleySuccess);
        r->ids = &ids[i];
    }
}

/* One after the other, without a barrier: a fast rank is at the next while others end the last. */
static void *join_often(void *arg)
{
    struct world_rank *r = arg;
    uint32_t mine, all[8];
    for (uint32_t i = 0; i < 20 && r->result == medleySuccess; i++) {
        world_join(r);
        if (r->result != medleySuccess) break;
        mine = i;
        if (mdl_ctl_allgather(r->ctl, &mine, sizeof(mine), all, world_soon(10000), "turn") != medleySuccess ||
            all[0] != i || all[r->of - 1] != i)
            r->result = medleyInternalError;
        mdl_ctl_close(r->ctl);
        r->ctl = NULL;
    }
    return NULL;
}

START_TEST(one_after_the_other)
{
    warm_up();
    int fds = leaks_descriptors(), threads = leaks_threads_settle(ALONE);
    world_init(&world, 4);
    free_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    compute_ids(&world);
    for (int i = 0; i < 4; i++) pthread_create(&world.ranks[i].thread, NULL, join_often, &world.ranks[i]);
    for (int i = 0; i < 4; i++) pthread_join(world.ranks[i].thread, NULL);
    world_all_joined(&world);
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

/* Three ranks of which one is absent, or has another key. */
static void three_ranks(int ms, int absent, const char *key_of_2)
{
    world_init(&world, 3);
    free_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    world.cfg.init_timeout = ms;
    if (absent >= 0) world.ranks[absent].absent = true;
    world.ranks[2].cfg = world.cfg;
    snprintf(world.ranks[2].cfg.comm_key.s, sizeof(world.cfg.comm_key.s), "%s", key_of_2);
    compute_ids(&world);
    world_run(&world);
}

START_TEST(missing_with_comm_id)
{
    bool good = false;
    WORLD_TRY_LONGER(ms)
    {
        three_ranks(ms, 1, "");
        good = world_all_say(&world, medleyTimeout, "missing: 1 (");
        if (good) break;
    }
    ck_assert_msg(good, "%s", world.ranks[0].error);
}
END_TEST

START_TEST(without_rank_0)
{
    WORLD_TRY_LONGER(ms)
    {
        three_ranks(ms, 0, "");
        if (world_all_say(&world, medleyTimeout, "Connection refused")) break;
    }
    world_all_failed(&world, medleyTimeout, "was never reached");
    world_all_failed(&world, medleyTimeout, world.cfg.comm_id.s);
    world_all_failed(&world, medleyTimeout, "Connection refused");
}
END_TEST

START_TEST(other_key)
{
    bool good = false;
    WORLD_TRY_LONGER(ms)
    {
        three_ranks(ms, -1, "quite another key");
        good = strstr(world.ranks[0].error, "missing: 2") && strstr(world.ranks[1].error, "missing: 2") &&
               strstr(world.ranks[2].error, "never reached") && strstr(world.ranks[2].error, "another key");
        if (good) break;
    }
    ck_assert_msg(good, "%s / %s", world.ranks[0].error, world.ranks[2].error);
}
END_TEST

static void *join_late(void *arg)
{
    usleep(200 * 1000); /* the others shall meet a port that nobody listens on */
    return world_thread(arg);
}

START_TEST(rank_0_late)
{
    world_init(&world, 3);
    free_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    compute_ids(&world);
    for (int i = 0; i < 3; i++)
        pthread_create(&world.ranks[i].thread, NULL, i ? world_thread : join_late, &world.ranks[i]);
    for (int i = 0; i < 3; i++) pthread_join(world.ranks[i].thread, NULL);
    world_all_joined(&world);
}
END_TEST

START_TEST(port_taken)
{
    world_init(&world, 2);
    world.cfg.init_timeout = 250;
    int fd = take_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    ck_assert_int_eq(listen(fd, 1), 0);
    compute_ids(&world);
    world_run(&world);
    ck_assert_int_eq(world.ranks[0].result, medleySystemError);
    ck_assert_ptr_nonnull(strstr(world.ranks[0].error, world.cfg.comm_id.s));
    ck_assert_int_eq(world.ranks[1].result, medleyTimeout);
    close(fd);
}
END_TEST

static bool is_refused(const struct world_rank *r)
{
    return r->result == medleyInvalidUsage && strstr(r->error, "one after the other");
}

static bool one_is_refused(int ms)
{
    world_init(&world, 2);
    world.nthreads = 3;
    free_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    world.cfg.init_timeout = ms;
    world.ranks[0].absent = true;
    world.ranks[2].as = 1;
    compute_ids(&world);
    world_run(&world);
    const struct world_rank *a = &world.ranks[1], *b = &world.ranks[2];
    return (is_refused(a) && b->result == medleyTimeout) || (is_refused(b) && a->result == medleyTimeout);
}

/* The same rank cannot be in two at once: nobody could tell which of the others' belongs to which. */
START_TEST(two_at_once)
{
    bool good = false; /* the second may come when the first has given up */
    WORLD_TRY_LONGER(ms) if ((good = one_is_refused(ms))) break;
    ck_assert_msg(good, "%s / %s", world.ranks[1].error, world.ranks[2].error);
}
END_TEST

START_TEST(not_one_of_several)
{
    world_init(&world, 2);
    free_port(world.cfg.comm_id.s, sizeof(world.cfg.comm_id.s));
    world.nids = 2;
    world_make_id(&world);
    world_run(&world);
    world_all_failed(&world, medleyInvalidArgument, "one of several");
}
END_TEST

/* An id that is never used is no leak for ever: what is made later closes it when it has expired. */
START_TEST(unused_ids_expire)
{
    struct mdl_config cfg;
    medleyUniqueId id;
    warm_up();
    int threads = leaks_threads_settle(ALONE), fds = leaks_descriptors();
    world_config(&cfg);
    cfg.init_timeout = 100;
    for (int i = 0; i < 50; i++) ck_assert_int_eq(mdl_boot_id_create(&cfg, &id), medleySuccess);
    uint64_t start = mdl_now_ns();
    do { /* they have expired after 200 ms, or when their thread finds the time */
        usleep(250 * 1000);
        world_init(&world, 1);
        world_make_id(&world);
        world_run(&world);
        world_all_joined(&world);
    } while (leaks_descriptors() != fds && mdl_now_ns() - start < unit_ns(5));
    ck_assert_int_eq(leaks_threads(), threads);
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

UNIT_MAIN("boot_id", made_ids_differ, fixed_ids_are_equal, debian_loopback_name, comm_id_rules, key_files,
          one_after_the_other, missing_with_comm_id, without_rank_0, rank_0_late, other_key, port_taken, two_at_once,
          not_one_of_several, unused_ids_expire)
