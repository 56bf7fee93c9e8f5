/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a table of the CUDA-shaped family recognises its machine and its library, with files and tables made up here: the
 * mathematics library stands for one that has other symbols than it should.
 */
#include "config.h"
#include "devices/cuda_family.h"
#include "lib/base/status.h"
#include "tests/unit/unit.h"
#include <fcntl.h>
#include <stdio.h>

extern const struct mdl_device mdl_device_hip, mdl_device_dtk;

static char folder[64], node[96], sign[96], other[96], found[256], why[768];
static const char *const libraries[] = {"libm.so.6", NULL}, *const no_libraries[] = {"libno-such-vendor.so.1", NULL};
static const char *nodes[] = {node, NULL}, *signs[] = {sign, NULL}, *others[] = {other, NULL};
static struct mdl_cuda_state state = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct mdl_cuda_vendor table;
static const struct mdl_device device = MDL_CUDA_DEVICE("mine", "a table", NULL, &table, NULL);

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void begin(void)
{
    snprintf(folder, sizeof(folder), "/tmp/medley-test-family-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(node, sizeof(node), "%s/node*", folder);
    snprintf(sign, sizeof(sign), "%s/sign", folder);
    snprintf(other, sizeof(other), "%s/other*", folder);
    table = (struct mdl_cuda_vendor){.prefix = "mine",
                                     .driver_prefix = "my",
                                     .runtimes = libraries,
                                     .nodes = nodes,
                                     .signs = signs,
                                     .others = others,
                                     .state = &state};
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

/* Refused, with the words, without a message, and with nothing left bound. */
static void refuses(const char *where, const char *words)
{
    mdl_error_clear();
    ck_assert_int_ne(device.probe(&device, where, found, sizeof(found), why, sizeof(why)), medleySuccess);
    ck_assert_msg(strstr(why, words) != NULL, "\"%s\" is not in: %s", words, why);
    ck_assert_str_eq(mdl_error_text(), "");
    ck_assert_ptr_null(state.runtime);
    ck_assert_ptr_null(state.bound);
    ck_assert_uint_eq(device.caps(&device), 0);
}

static void make(const char *file)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    touch(path);
}

START_TEST(files_tell_the_machine)
{
    begin();
    refuses(NULL, "no such device on this machine: none of ");
    ck_assert_ptr_nonnull(strstr(why, node));
    make("node0");
    refuses(NULL, "none of ");
    ck_assert_ptr_nonnull(strstr(why, sign));
    make("sign");
    refuses(NULL, "the library has no mineGetDeviceCount");
    make("other-1.2");
    refuses(NULL, "another vendor's machine: it has ");
    ck_assert_ptr_nonnull(strstr(why, other));
    ck_assert_ptr_nonnull(strstr(why, "MEDLEY_DEVICE_PATH=mine=<folder> insists"));
    end();
}
END_TEST

/* AMD's and Hygon's tables exclude each other: what is a sign of the one is of others to the other. */
START_TEST(amd_and_hygon_exclude_each_other)
{
    const struct mdl_cuda_vendor *hip = mdl_device_hip.self, *dtk = mdl_device_dtk.self;
    int i = 0;
    ck_assert_str_eq(hip->nodes[0], dtk->nodes[0]);
    ck_assert_ptr_nonnull(hip->others);
    ck_assert_ptr_nonnull(dtk->signs);
    for (; hip->others[i]; i++) ck_assert_str_eq(hip->others[i], dtk->signs[i]);
    ck_assert_int_gt(i, 0);
    ck_assert_ptr_null(dtk->signs[i]);
}
END_TEST

/* A folder that the user names needs no files beside it, but the library is looked at all the same. */
START_TEST(a_named_folder_is_trusted)
{
    begin();
    refuses(folder, "no library: ");
    table.runtimes = no_libraries;
    refuses(folder, "libno-such-vendor.so.1");
    end();
}
END_TEST

START_TEST(libraries_that_are_not_there)
{
    static const char *const places[] = {"/no/such/folder", NULL};
    begin();
    table.nodes = table.signs = table.others = NULL;
    table.runtimes = no_libraries;
    table.folders = places;
    refuses(NULL, "libno-such-vendor.so.1");
    table.folders_first = true;
    refuses(NULL, "libno-such-vendor.so.1");
    end();
}
END_TEST

START_TEST(symbols_tell_the_library)
{
    static const char *const foreign[] = {"noSuchSymbol", "cos", NULL};
    static const struct mdl_cuda_rename renames[] = {
        {MDL_CUDA_COUNT, "CountOne"}, {MDL_CUDA_COUNT, "CountAll"}, {MDL_CUDA_NUM_CALLS, NULL}};
    struct mdl_cuda_vendor older;
    begin();
    table.nodes = table.signs = table.others = NULL;
    refuses(NULL, "the library has no mineGetDeviceCount");
    table.renames = renames; /* of several names the last one is reported */
    refuses(NULL, "the library has no mineCountAll");
    table.foreign = foreign;
    refuses(NULL, "the library is another vendor's: it has cos");
    older = table; /* the older shape is tried too; what is reported is of the one that should be there */
    older.foreign = NULL;
    table.older = &older;
    refuses(NULL, "the library is another vendor's: it has cos");
    end();
}
END_TEST

UNIT_MAIN("dev_family", files_tell_the_machine, amd_and_hygon_exclude_each_other, a_named_folder_is_trusted,
          libraries_that_are_not_there, symbols_tell_the_library)
