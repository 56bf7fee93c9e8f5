/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of devices, MEDLEY_DEVICE_PATH and MEDLEY_DEVICE_PLUGIN, by means of a plugin (dev_plugin.c) that is copied
 * under the names of the vendors that a test wants. The machine may have devices of its own: what is expected of "auto"
 * follows from the rows.
 */
#include "config.h"
#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "tests/unit/unit.h"
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PLUGIN "tests/unit/.libs/dev_plugin.so"

static struct mdl_config cfg;
static struct mdl_dev dev;
static char folder[128], list[1024];

static void copy_plugin(const char *to)
{
    char bytes[65536];
    ssize_t n;
    int in = open(PLUGIN, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    ck_assert_msg(in >= 0, "%s has not been built", PLUGIN);
    ck_assert_int_ge(out, 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0) ck_assert_int_eq(write(out, bytes, (size_t)n), n);
    ck_assert_int_eq(n, 0);
    close(in);
    close(out);
}

/* A plugin for each vendor of "a,b", named in MEDLEY_DEVICE_PLUGIN; a name with a slash or a dot is taken as it is. */
static void plug(const char *vendors)
{
    char names[256], *save = NULL;
    snprintf(names, sizeof(names), "%s", vendors);
    list[0] = 0;
    for (char *v = strtok_r(names, ",", &save); v; v = strtok_r(NULL, ",", &save)) {
        char path[256];
        if (strpbrk(v, "/."))
            snprintf(path, sizeof(path), "%s", v);
        else
            snprintf(path, sizeof(path), "%s/%s.so", folder, v);
        if (!strpbrk(v, "/.") && access(path, F_OK) != 0) copy_plugin(path);
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", list[0] ? "," : "", path);
    }
    ck_assert_int_eq(mdl_config_set(&cfg, "MEDLEY_DEVICE_PLUGIN", list), medleySuccess);
}

static void remove_plugins(void)
{
    char pattern[256];
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%s/*.so", folder);
    if (glob(pattern, 0, NULL, &g) == 0)
        for (size_t i = 0; i < g.gl_pathc; i++) unlink(g.gl_pathv[i]);
    globfree(&g);
    if (rmdir(folder) != 0) perror(folder);
}

static void set(const char *env, const char *value)
{
    ck_assert_int_eq(mdl_config_set(&cfg, env, value), medleySuccess);
}

static void begin(const char *plugins)
{
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    if (plugins) plug(plugins);
}

static void finds(const char *name, const char *text)
{
    char found[64];
    ck_assert_msg(mdl_dev_find(&cfg, name, &dev) == medleySuccess, "%s: %s", name, mdl_error_text());
    mdl_dev_name(&dev, found, sizeof(found));
    ck_assert_str_eq(found, text);
}

static void refuses(const char *name, medleyResult_t code, const char *words)
{
    mdl_error_clear();
    ck_assert_int_eq(mdl_dev_find(&cfg, name, &dev), code);
    ck_assert_ptr_null(dev.ops);
    ck_assert_msg(strstr(mdl_error_text(), words) != NULL, "\"%s\" is not in: %s", words, mdl_error_text());
}

static bool row_of(const char *vendor, struct mdl_dev_row *row)
{
    for (int i = 0; mdl_dev_row(&cfg, i, row); i++)
        if (strcmp(row->name, vendor) == 0) return true;
    return false;
}

START_TEST(host_needs_nothing)
{
    begin(NULL);
    set("MEDLEY_DEVICE_PLUGIN", "/no/such/file.so"); /* which is not looked at */
    finds("host", "host");
    ck_assert_int_eq(mdl_dev_check_name(&cfg, "host"), medleySuccess);
}
END_TEST

START_TEST(unknown_names)
{
    static const char *const bad[] = {"tpu",
                                      "tpu:0",
                                      "",
                                      ":0",
                                      "cuda:",
                                      "cuda:x",
                                      "cuda:-1",
                                      "cuda:1x",
                                      "cuda:+0",
                                      "cuda: 0",
                                      "cuda:0 ",
                                      " cuda:0",
                                      "cuda:99999999999",
                                      "host:0",
                                      "auto:1",
                                      "CUDA:0",
                                      "a-name-that-is-longer-than-any-vendor-has:0"};
    begin(NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refuses(bad[i], medleyInvalidArgument, "is not a device: it must be one of host, auto, cuda, hip");
        ck_assert_int_eq(mdl_dev_check_name(&cfg, bad[i]), medleyInvalidArgument);
    }
    ck_assert_int_eq(mdl_dev_check_name(&cfg, "cuda:7"), medleySuccess);
    ck_assert_int_eq(mdl_dev_check_name(&cfg, "hip"), medleySuccess);
    ck_assert_int_eq(mdl_dev_check_name(&cfg, "auto"), medleySuccess);
}
END_TEST

START_TEST(ordinals)
{
    begin("toy");
    finds("toy:0", "toy:0");
    finds("toy:1", "toy:1");
    finds("toy", "toy:1"); /* its current one */
    ck_assert_uint_eq(dev.caps, MDL_DEV_HOST_ACCESS);
    refuses("toy:2", medleyInvalidArgument, "there are 2 devices of a test's devices here, numbered from 0");
    ck_assert_int_eq(mdl_dev_check_name(&cfg, "toy:2"), medleySuccess); /* it could mean one */
}
END_TEST

START_TEST(current_device_is_restored)
{
    struct mdl_dev_visit visit;
    int now = -1;
    begin("toy");
    finds("toy:0", "toy:0");
    ck_assert_int_eq(mdl_dev_enter(&dev, &visit), medleySuccess);
    ck_assert_int_eq(dev.ops->current(dev.ops, &now), medleySuccess);
    ck_assert_int_eq(now, 0);
    mdl_dev_leave(&dev, &visit);
    ck_assert_int_eq(dev.ops->current(dev.ops, &now), medleySuccess);
    ck_assert_int_eq(now, 1);
    dev.ordinal = 5; /* what the plugin says of it is what is reported */
    ck_assert_int_eq(mdl_dev_enter(&dev, &visit), medleyUnhandledDeviceError);
    ck_assert_str_eq(mdl_error_text(), "toy has no device 5");
}
END_TEST

/* The vendors that are here and count: those of their own adapters or, if `generic`, those of generic ones. */
static int count_present(bool generic, const struct mdl_device **first, const struct mdl_device **second)
{
    struct mdl_dev_row row;
    int n = 0;
    for (int i = 0; mdl_dev_row(&cfg, i, &row); i++) {
        if (!row.bound || row.ops->generic != generic || (row.ops->caps(row.ops) & MDL_DEV_CPU)) continue;
        if (n == 0) *first = row.ops;
        if (n == 1) *second = row.ops;
        n++;
    }
    return n;
}

/* None is the host, one is it, two are an error with both names. */
static void check_auto(void)
{
    const struct mdl_device *first = NULL, *second = NULL;
    int n = count_present(false, &first, &second);
    if (n == 0) n = count_present(true, &first, &second);
    if (n > 1) {
        refuses("auto", medleyInvalidArgument, first->vendor);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), second->vendor));
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_DEVICE"));
        return;
    }
    ck_assert_int_eq(mdl_dev_find(&cfg, "auto", &dev), medleySuccess);
    ck_assert_ptr_eq(dev.ops, first);
}

START_TEST(auto_without_plugins)
{
    begin(NULL);
    check_auto();
}
END_TEST
START_TEST(auto_with_one)
{
    begin("toy");
    check_auto();
}
END_TEST
START_TEST(auto_with_two)
{
    begin("toy,toz");
    check_auto();
    refuses("auto", medleyInvalidArgument, "are here; name one of them");
}
END_TEST

START_TEST(every_vendor_has_a_row_with_a_reason)
{
    static const char *const vendors[] = {"cuda", "hip",  "dtk",      "musa", "maca",   "tops", "supa", "tx",
                                          "tang", "sdaa", "iluvatar", "ppu",  "kunlun", "acl",  "cnrt"};
    struct mdl_dev_row row;
    begin(NULL);
    for (size_t i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++) {
        ck_assert_msg(row_of(vendors[i], &row), "no row for %s", vendors[i]);
        ck_assert(row.bound ? row.found[0] != 0 : row.why[0] != 0);
        ck_assert_ptr_nonnull(row.ops->title);
        row.why[60] = 0; /* an error's text is shorter than a reason can be */
        if (!row.bound) refuses(vendors[i], medleyInvalidArgument, row.why);
    }
}
END_TEST

/* ---- MEDLEY_DEVICE_PATH ---- */

static void path_gives(const char *path, const char *vendor, const char *found)
{
    struct mdl_dev_row row;
    set("MEDLEY_DEVICE_PATH", path);
    ck_assert_msg(row_of(vendor, &row), "%s: %s", path, mdl_error_text());
    ck_assert(row.bound);
    ck_assert_str_eq(row.found, found);
}

START_TEST(path_names_a_folder)
{
    begin("toy,toz");
    path_gives("toz=/b,toy=/a/b=c", "toy", "folder /a/b=c");
    path_gives("toz=/b,toy=/a/b=c", "toz", "folder /b");
}
END_TEST
START_TEST(path_is_of_others)
{
    begin("toy,toz");
    path_gives("toz=/b", "toy", "folder none");
}
END_TEST
START_TEST(path_is_empty)
{
    begin("toy");
    path_gives("", "toy", "folder none");
}
END_TEST

START_TEST(path_is_nonsense)
{
    static const char *const bad[] = {"/usr/lib", "toy", "toy=", "=/a", "to=/a", "toyy=/a", "toz=/b", "toy=/a,hipp=/b"};
    begin("toy");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set("MEDLEY_DEVICE_PATH", bad[i]);
        refuses("toy:0", medleyInvalidArgument, "MEDLEY_DEVICE_PATH");
        finds("host", "host");
    }
}
END_TEST

/* What was not found is looked for again, what was found stays. */
START_TEST(a_vendor_can_be_found_later)
{
    struct mdl_dev_row row;
    begin("toy");
    set("MEDLEY_DEVICE_PATH", "toy=/nowhere");
    ck_assert(row_of("toy", &row));
    ck_assert(!row.bound);
    ck_assert_str_eq(row.why, "toy is not in /nowhere");
    refuses("toy:0", medleyInvalidArgument, "\"toy:0\" cannot be used: toy is not in /nowhere");
    path_gives("toy=/here", "toy", "folder /here");
    path_gives("toy=/nowhere", "toy", "folder /here");
}
END_TEST

/* ---- MEDLEY_DEVICE_PLUGIN ---- */

/* Whoever asks for `name` gets the reason, also the second time; nobody else is hurt. */
static void leaves_out(const char *plugins, const char *name, const char *words)
{
    struct mdl_dev_row row;
    bool found = false;
    begin(plugins);
    refuses(name, medleyInvalidArgument, words);
    refuses(name, medleyInvalidArgument, words);
    for (int i = 0; mdl_dev_row(&cfg, i, &row); i++) found |= !row.bound && !row.ops && strstr(row.why, words);
    ck_assert_msg(found, "no row says \"%s\"", words);
    ck_assert(row_of("cuda", &row) && row.ops);
    finds("host", "host");
}

/* The list of plugins is the process's. */
static void leaves_out_apart(const char *plugin, const char *words)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        leaves_out(plugin, plugin, words);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "%s: status 0x%x", plugin, status);
}

START_TEST(plugin_of_another_abi) { leaves_out("badabi", "badabi", "this Medley needs ABI 1"); }
END_TEST
START_TEST(plugin_of_another_size) { leaves_out("badsize", "badsize", "a structure of"); }
END_TEST
START_TEST(plugin_without_a_device) { leaves_out("nothing", "nothing:0", "offers no device"); }
END_TEST
START_TEST(plugin_without_the_symbol) { leaves_out("libm.so.6", "toy", "has no medley_device_v1"); }
END_TEST
START_TEST(plugin_that_is_not_there) { leaves_out("/no/such/file.so", "toy:0", "/no/such/file.so"); }
END_TEST
START_TEST(plugin_of_a_vendor_that_is_built_in) { leaves_out("cuda", "cudda", "is for \"cuda\", which there is already"); }
END_TEST

START_TEST(good_plugin_beside_bad_ones)
{
    leaves_out("nothing,toy,badabi", "nothing", "offers no device");
    finds("toy:0", "toy:0");
}
END_TEST

START_TEST(plugin_twice)
{
    leaves_out("toy,toy", "toyy", "is for \"toy\", which there is already");
    finds("toy:0", "toy:0");
}
END_TEST

START_TEST(plugin_without_what_is_required)
{
    static const char *const required[] = {"probe", "caps", "count",        "enter",       "info",
                                           "alloc", "free", "alloc_pinned", "free_pinned", "copy",
                                           "stream_create", "stream_destroy", "stream_sync"};
    char plugin[64], words[64];
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        snprintf(plugin, sizeof(plugin), "without_%s", required[i]);
        snprintf(words, sizeof(words), "it has no function \"%s\", which is required", required[i]);
        leaves_out_apart(plugin, words);
    }
    leaves_out_apart("without_title", "it has no title");
}
END_TEST

START_TEST(plugin_with_an_impossible_name)
{
    leaves_out_apart("vendor_null", "its vendor is NULL");
    leaves_out_apart("vendor_empty", "its vendor is \"\"");
    leaves_out_apart("vendor_host", "its vendor is \"host\"");
    leaves_out_apart("vendor_auto", "its vendor is \"auto\"");
    leaves_out_apart("vendor_colon", "its vendor is \"a:b\"");
    leaves_out_apart("vendor_comma", "its vendor is \"a,b\"");
    leaves_out_apart("vendor_equal", "its vendor is \"a=b\"");
    leaves_out_apart("vendor_blank", "its vendor is \"a b\"");
    leaves_out_apart("vendor_long", "it must have 1 to 31 printable characters");
}
END_TEST

START_TEST(plugin_that_claims_too_much)
{
    static const struct {
        int bit;
        const char *name, *function;
    } claims[] = {{1, "POINTERS", "classify"},    {2, "PIN", "pin"},
                  {3, "EVENTS", "event_create"},  {4, "WORDS", "alloc_words"},
                  {5, "HOST_FUNC", "stream_host_func"}, {6, "CAPTURE", "stream_capturing"},
                  {7, "IPC", "ipc_export"},       {8, "DMABUF", "dmabuf_export"},
                  {9, "KERNELS", "module_load"}};
    char plugin[64], words[128];
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        snprintf(plugin, sizeof(plugin), "claims_%d", claims[i].bit);
        snprintf(words, sizeof(words), "it claims MDL_DEV_%s and has no function \"%s\"", claims[i].name,
                 claims[i].function);
        leaves_out_apart(plugin, words);
    }
    leaves_out_apart("claims_12", "it claims MDL_DEV_KERNEL_WORDS without MDL_DEV_KERNELS");
    leaves_out_apart("claims_13", "it claims capabilities that there are not: 0x2000");
}
END_TEST

START_TEST(plugin_that_counts_nothing)
{
    leaves_out_apart("counts_none", "counts 0 devices");
    leaves_out_apart("counts_less", "counts -3 devices");
}
END_TEST

/* Its devices stay usable. */
static void native_says(const char *plugin, const char *words)
{
    pid_t child = fork();
    int status = -1;
    char text[768], name[64];
    if (child == 0) {
        begin(plugin);
        snprintf(name, sizeof(name), "%s:0", plugin);
        finds(name, name);
        ck_assert((mdl_dev_native(&cfg, dev.ops, text, sizeof(text)) != NULL) == !strcmp(plugin, "native_good"));
        ck_assert_msg(strstr(text, words) != NULL, "\"%s\" is not in: %s", words, text);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "%s: status 0x%x", plugin, status);
}

START_TEST(collective_libraries)
{
    native_says("native_good", "a library of nothing");
    native_says("native_without_name", "table of a collective library has no name");
    native_says("native_without_probe", "has no function \"probe\"");
    native_says("native_without_caps", "its function \"caps\" is missing");
    native_says("native_without_get_id", "has no function \"get_id\"");
    native_says("native_without_init", "has no function \"init\"");
    native_says("native_without_destroy", "has no function \"destroy\"");
    native_says("native_without_run", "has no function \"run\"");
    native_says("native_without_messages", "has no function \"messages\"");
    native_says("native_id", "an id of 4609 bytes");
    native_says("native_abort", "claims MDL_NATIVE_ABORT and has no function \"abort\"");
    native_says("native_groups", "claims MDL_NATIVE_GROUPS and has no function \"group_start\"");
    native_says("native_colls", "there are not: 0x4000");
    native_says("native_types", "there are not: 0x0, 0x1000");
}
END_TEST

START_TEST(plugins_cannot_change)
{
    begin("toy");
    finds("toy:0", "toy:0");
    plug("toz");
    refuses("toz:0", medleyInvalidUsage, "cannot become");
    plug("toy");
    finds("toy:1", "toy:1");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {host_needs_nothing,
                                  unknown_names,
                                  ordinals,
                                  current_device_is_restored,
                                  auto_without_plugins,
                                  auto_with_one,
                                  auto_with_two,
                                  every_vendor_has_a_row_with_a_reason,
                                  path_names_a_folder,
                                  path_is_of_others,
                                  path_is_empty,
                                  path_is_nonsense,
                                  a_vendor_can_be_found_later,
                                  plugin_of_another_abi,
                                  plugin_of_another_size,
                                  plugin_without_a_device,
                                  plugin_without_the_symbol,
                                  plugin_that_is_not_there,
                                  plugin_of_a_vendor_that_is_built_in,
                                  good_plugin_beside_bad_ones,
                                  plugin_without_what_is_required,
                                  plugin_with_an_impossible_name,
                                  plugin_that_claims_too_much,
                                  plugin_that_counts_nothing,
                                  collective_libraries,
                                  plugin_twice,
                                  plugins_cannot_change};
    int status;
    snprintf(folder, sizeof(folder), "/tmp/medley-test-dev-XXXXXX");
    if (!mkdtemp(folder)) return 99;
    status = unit_run("dev_names", tests, sizeof(tests) / sizeof(tests[0]));
    remove_plugins();
    return status;
}
