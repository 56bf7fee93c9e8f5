/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: defaults, each kind of value, bounds, bad text, secrets, unknown variables. */
#include "config.h"
#include "lib/base/config.h"
#include "lib/base/log.h"
#include "tests/unit/unit.h"
#include <stdio.h>

static struct mdl_config cfg;
static char warnings[4096];
static int warning_count;

static void keep(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)user, (void)level;
    if (strcmp(subsystem, "ENV") == 0) warning_count++;
    strncat(warnings, message, sizeof(warnings) - strlen(warnings) - 2);
    strcat(warnings, "\n");
}

static void catch_log(void) { ck_assert_int_eq(mdl_log_set_callback(keep, medleyLogTrace, NULL), medleySuccess); }

static void load(void) { ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess); }

static void set(const char *env, const char *text)
{
    ck_assert_msg(mdl_config_set(&cfg, env, text) == medleySuccess, "%s=%s: %s", env, text, mdl_error_text());
}

/* The value is refused, the configuration unchanged, and the error names the variable and the text. */
static void refused(const char *env, const char *text)
{
    struct mdl_config before = cfg;
    ck_assert_msg(mdl_config_set(&cfg, env, text) == medleyInvalidArgument, "%s=%s was accepted", env, text);
    ck_assert_mem_eq(&cfg, &before, sizeof(cfg));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), env));
    char shown[81];
    snprintf(shown, sizeof(shown), "%s", text);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), shown));
}

START_TEST(defaults)
{
    load();
    ck_assert_int_eq(cfg.cma, true);
    ck_assert_int_eq(cfg.deterministic, false);
    ck_assert_int_eq(cfg.spin, -1);
    ck_assert_int_eq(cfg.timeout, 600000);
    ck_assert_int_eq(cfg.stall, 100);
    ck_assert_uint_eq(cfg.tcp_chunk, 256 << 10);
    ck_assert_uint_eq(cfg.memory_budget, 64 << 20);
    ck_assert_str_eq(cfg.transport.s, "shm,tcp");
    ck_assert_str_eq(cfg.comm_id.s, "");
}
END_TEST

START_TEST(environment_wins_and_empty_means_default)
{
    setenv("MEDLEY_TIMEOUT", "5s", 1);
    setenv("MEDLEY_THREADS", "", 1);
    setenv("MEDLEY_TRANSPORT", "", 1);
    setenv("MEDLEY_ALGO", " ring ", 1);
    load();
    ck_assert_int_eq(cfg.timeout, 5000);
    ck_assert_int_eq(cfg.threads, 0);
    ck_assert_str_eq(cfg.transport.s, "shm,tcp");
    ck_assert_str_eq(cfg.algo.s, "ring");
}
END_TEST

START_TEST(bad_environment_fails_and_leaves_cfg)
{
    catch_log();
    load();
    struct mdl_config before = cfg;
    setenv("MEDLEY_CMA", "0", 1);
    setenv("MEDLEY_HEARTBEAT", "soon", 1);
    ck_assert_int_eq(mdl_config_load(&cfg), medleyInvalidArgument);
    ck_assert_mem_eq(&cfg, &before, sizeof(cfg));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_HEARTBEAT"));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "'soon'"));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "10ms to 60s"));
    ck_assert_ptr_nonnull(strstr(warnings, "MEDLEY_HEARTBEAT"));
}
END_TEST

START_TEST(bools)
{
    static const char *const yes[] = {"1", "true", "YES", "On"}, *const no[] = {"0", "False", "no", "off"};
    catch_log();
    load();
    for (int i = 0; i < 4; i++) {
        set("MEDLEY_CMA", no[i]);
        ck_assert(!cfg.cma);
        set("MEDLEY_CMA", yes[i]);
        ck_assert(cfg.cma);
    }
    refused("MEDLEY_CMA", "2");
    refused("MEDLEY_CMA", "-1");
    refused("MEDLEY_CMA", "yess");
}
END_TEST

START_TEST(ints)
{
    catch_log();
    load();
    set("MEDLEY_NSOCKS_PERPEER", "1");
    ck_assert_int_eq(cfg.sockets, 1);
    set("MEDLEY_NSOCKS_PERPEER", " 16 ");
    ck_assert_int_eq(cfg.sockets, 16);
    set("MEDLEY_SPIN", "-1");
    ck_assert_int_eq(cfg.spin, -1);
    static const char *const bad[] = {"0",
                                      "17",
                                      "-2",
                                      "1.5",
                                      "x",
                                      "1x",
                                      "0x10",
                                      "- 1",
                                      "+",
                                      "4 5",
                                      "1K",
                                      "99999999999999999999",
                                      "-99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) refused("MEDLEY_NSOCKS_PERPEER", bad[i]);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "from 1 to 16"));
}
END_TEST

START_TEST(times)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"250", 250}, {"250ms", 250}, {"250 MS", 250}, {"3s", 3000}, {"2min", 120000}, {"1 min", 60000}};
    catch_log();
    load();
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        set("MEDLEY_DEAD_AFTER", good[i].text);
        ck_assert_int_eq(cfg.dead_after, good[i].ms);
    }
    static const char *const bad[] = {
        "49", "3601s", "-1s", "1h", "s", "1.5s", "10us", "3 seconds", "9223372036854775807s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) refused("MEDLEY_DEAD_AFTER", bad[i]);
    set("MEDLEY_TIMEOUT", "0");
    ck_assert_int_eq(cfg.timeout, 0);
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1048576", 1 << 20}, {"2048K", 2 << 20}, {"3m", 3 << 20}, {"1G", 1 << 30}, {"1024G", 1ull << 40}};
    catch_log();
    load();
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        set("MEDLEY_MEMORY_BUDGET", good[i].text);
        ck_assert_uint_eq(cfg.memory_budget, good[i].bytes);
    }
    static const char *const bad[] = {"1048575", "1025G", "-1M",          "1KB",        "K",
                                      "1T",      "1e9",   "17179869184G", "8589934592G"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) refused("MEDLEY_MEMORY_BUDGET", bad[i]);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "from 1M to 1024G"));
}
END_TEST

START_TEST(texts)
{
    char text[300];
    memset(text, 'a', sizeof(text));
    catch_log();
    load();
    text[MDL_CONFIG_TEXT_BYTES - 1] = '\0';
    set("MEDLEY_SOCKET_IFNAME", text);
    ck_assert_str_eq(cfg.socket_ifname.s, text);
    text[MDL_CONFIG_TEXT_BYTES - 1] = 'a';
    text[MDL_CONFIG_TEXT_BYTES] = '\0';
    refused("MEDLEY_SOCKET_IFNAME", text);

    text[63] = '\0';
    set("MEDLEY_COMM_NAME", text);
    ck_assert_str_eq(cfg.comm_name.s, text);
    text[63] = 'a';
    text[64] = '\0';
    refused("MEDLEY_COMM_NAME", text);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "at most 63"));
}
END_TEST

START_TEST(a_shorter_text_leaves_nothing_of_a_longer)
{
    load();
    set("MEDLEY_COMM_KEY", "0123456789abcdefXYZ");
    set("MEDLEY_COMM_KEY", "fedcba9876543210");
    ck_assert_ptr_null(memmem(&cfg, sizeof(cfg), "XYZ", 3));
}
END_TEST

START_TEST(no_such_variable)
{
    catch_log();
    load();
    ck_assert_int_eq(mdl_config_set(&cfg, "MEDLEY_TIMEOUTS", "1"), medleyInvalidArgument);
    ck_assert_int_eq(mdl_config_set(&cfg, "TIMEOUT", "1"), medleyInvalidArgument);
    ck_assert_int_eq(mdl_config_set(&cfg, "", "1"), medleyInvalidArgument);
}
END_TEST

/* ---- the table ---- */

START_TEST(rows_are_complete_and_unique)
{
    struct mdl_config_row row, other;
    size_t n = 0;
    for (; mdl_config_row(n, &row); n++) {
        ck_assert_int_eq(strncmp(row.env, "MEDLEY_", 7), 0);
        ck_assert_uint_gt(strlen(row.help), 10);
        ck_assert_ptr_nonnull(strstr("BOOL INT TIME SIZE TEXT", row.kind));
        for (size_t i = 0; i < n; i++) {
            ck_assert(mdl_config_row(i, &other));
            ck_assert_str_ne(row.env, other.env);
        }
        ck_assert_int_eq(row.secret, strcmp(row.env, "MEDLEY_COMM_KEY") == 0);
    }
    ck_assert_uint_gt(n, 30);
    ck_assert(!mdl_config_row(n, &row));
    ck_assert(!mdl_config_row(SIZE_MAX, &row));
}
END_TEST

START_TEST(every_default_is_allowed_and_formats_as_itself)
{
    struct mdl_config_row row;
    char text[MDL_CONFIG_TEXT_BYTES];
    load();
    for (size_t i = 0; mdl_config_row(i, &row); i++) {
        mdl_config_format(&cfg, i, text, sizeof(text));
        ck_assert_str_eq(text, row.def);
        set(row.env, row.def);
    }
}
END_TEST

/* Finds a row's index by its name. */
static size_t row_index(const char *env)
{
    struct mdl_config_row row;
    for (size_t i = 0; mdl_config_row(i, &row); i++)
        if (strcmp(row.env, env) == 0) return i;
    ck_abort_msg("no row %s", env);
    return 0;
}

START_TEST(formatted_values_read_back)
{
    static const struct {
        const char *env, *text, *formatted;
    } values[] = {
        {"MEDLEY_TIMEOUT", "1500", "1500ms"}, {"MEDLEY_TIMEOUT", "2min", "120s"}, {"MEDLEY_TIMEOUT", "0", "0ms"},
        {"MEDLEY_WINDOW", "5000", "5000"},    {"MEDLEY_WINDOW", "8192", "8K"},    {"MEDLEY_WINDOW", "1048576", "1M"},
        {"MEDLEY_WINDOW", "1G", "1G"},        {"MEDLEY_EAGER", "0", "0"},         {"MEDLEY_VERIFY", "yes", "1"},
        {"MEDLEY_MEMORY_BUDGET", "3G", "3G"}, {"MEDLEY_SPIN", "-1", "-1"},        {"MEDLEY_ALGO", "ring", "ring"},
    };
    load();
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[MDL_CONFIG_TEXT_BYTES];
        size_t index = row_index(values[i].env);
        set(values[i].env, values[i].text);
        mdl_config_format(&cfg, index, text, sizeof(text));
        ck_assert_str_eq(text, values[i].formatted);
        struct mdl_config before = cfg;
        set(values[i].env, text);
        ck_assert_mem_eq(&cfg, &before, sizeof(cfg));
    }
    char text[8] = "x";
    mdl_config_format(&cfg, 100000, text, sizeof(text));
    ck_assert_str_eq(text, "");
    mdl_config_format(&cfg, row_index("MEDLEY_TRANSPORT"), text, sizeof(text));
    ck_assert_str_eq(text, "shm,tcp");
    mdl_config_format(&cfg, 0, NULL, 0);
}
END_TEST

START_TEST(secret_is_never_shown)
{
    char text[64], key[400];
    catch_log();
    load();
    size_t index = row_index("MEDLEY_COMM_KEY");
    mdl_config_format(&cfg, index, text, sizeof(text));
    ck_assert_str_eq(text, "");
    set("MEDLEY_COMM_KEY", "correct horse battery");
    mdl_config_format(&cfg, index, text, sizeof(text));
    ck_assert_str_eq(text, "(set)");

    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    ck_assert_int_eq(mdl_config_set(&cfg, "MEDLEY_COMM_KEY", key), medleyInvalidArgument);
    ck_assert_ptr_null(strstr(mdl_error_text(), "kkk"));
    ck_assert_ptr_null(strstr(warnings, "kkk"));
}
END_TEST

/* ---- unknown variables ---- */

START_TEST(unknown_variables_warn_once_with_the_nearest_name)
{
    setenv("MEDLEY_TIMOUT", "5s", 1);
    setenv("MEDLEY_comm_kay", "a secret mistyped", 1);
    setenv("MEDLEY_SOMETHING_ELSE_ENTIRELY", "1", 1);
    setenv("MEDLEYX", "1", 1);
    setenv("NCCL_DEBUG", "1", 1);
    catch_log();
    load();
    ck_assert_int_eq(warning_count, 3);
    ck_assert_ptr_nonnull(strstr(warnings, "MEDLEY_TIMOUT is not known and was ignored: did you mean MEDLEY_TIMEOUT?"));
    ck_assert_ptr_nonnull(
        strstr(warnings, "MEDLEY_comm_kay is not known and was ignored: did you mean MEDLEY_COMM_KEY?"));
    ck_assert_ptr_nonnull(strstr(warnings, "MEDLEY_SOMETHING_ELSE_ENTIRELY is not known and was ignored (see"));
    ck_assert_ptr_null(strstr(warnings, "secret"));
    load();
    ck_assert_int_eq(warning_count, 3);
}
END_TEST

START_TEST(known_variables_do_not_warn)
{
    struct mdl_config_row row;
    for (size_t i = 0; mdl_config_row(i, &row); i++) setenv(row.env, row.def, 1);
    setenv("MEDLEY_PERF_MIN_BW", "1", 1); /* medley-perf's */
    catch_log();
    load();
    ck_assert_int_eq(warning_count, 0);
}
END_TEST

START_TEST(overlong_names_are_no_danger)
{
    char name[1000];
    memset(name, 'Q', sizeof(name) - 1);
    memcpy(name, "MEDLEY_", 7);
    name[sizeof(name) - 1] = '\0';
    setenv(name, "1", 1);
    catch_log();
    load();
    ck_assert_int_eq(warning_count, 1);
}
END_TEST

UNIT_MAIN("config", defaults, environment_wins_and_empty_means_default, bad_environment_fails_and_leaves_cfg, bools,
          ints, times, sizes, texts, a_shorter_text_leaves_nothing_of_a_longer, no_such_variable,
          rows_are_complete_and_unique, every_default_is_allowed_and_formats_as_itself, formatted_values_read_back,
          secret_is_never_shown, unknown_variables_warn_once_with_the_nearest_name, known_variables_do_not_warn,
          overlong_names_are_no_danger)
