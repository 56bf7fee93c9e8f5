/* SPDX-License-Identifier: Apache-2.0 */
/* The list of vendors, built in and loaded, and names of devices. */
#include "config.h"

#include "lib/dev/dev.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VENDORS = 64, VENDOR_BYTES = 32 };

static struct {
    pthread_mutex_t lock;
    bool listed;
    int n;
    struct {
        const struct mdl_device *ops;
        bool bound;
        char found[256];
    } vendor[MAX_VENDORS];
    char plugins[MDL_CONFIG_TEXT_BYTES]; /* that have been loaded */
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the list ---- */

static medleyResult_t add(const struct mdl_device *d, const char *from)
{
    if (d->abi != MDL_PLUGIN_ABI || d->size != sizeof(*d))
        return mdl_error(medleyInvalidArgument,
                         "device adapter %s has ABI %u and a structure of %u bytes, this Medley needs ABI %u and %zu", from,
                         d->abi, d->size, MDL_PLUGIN_ABI, sizeof(*d));
    for (int i = 0; i < all.n; i++) {
        if (strcmp(all.vendor[i].ops->vendor, d->vendor) == 0)
            return mdl_error(medleyInvalidArgument, "device adapter %s is for \"%s\", which there is already", from,
                             d->vendor);
    }
    if (all.n == MAX_VENDORS) return mdl_error(medleySystemError, "more than %d device adapters", MAX_VENDORS);
    all.vendor[all.n++].ops = d;
    return medleySuccess;
}

static medleyResult_t plugin_error(medleyResult_t code, const char *format, ...)
{
    char text[MDL_ERROR_TEXT_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return mdl_error(code, "%s", text);
}

/* Stays loaded: what it gave is used until the process ends. */
static medleyResult_t load(const char *path)
{
    static const struct mdl_services services = {.size = sizeof(services), .error = plugin_error};
    const struct mdl_device *(*get)(const struct mdl_services *);
    const struct mdl_device *d;
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!object) return mdl_error(medleyInvalidArgument, "MEDLEY_DEVICE_PLUGIN: %s", dlerror());
    *(void **)&get = dlsym(object, "medley_device_v1");
    d = get ? get(&services) : NULL;
    if (!d) {
        dlclose(object);
        return mdl_error(medleyInvalidArgument, "MEDLEY_DEVICE_PLUGIN: %s %s", path,
                         get ? "offers no device" : "has no medley_device_v1");
    }
    return add(d, path);
}

/* With the lock. Of a list of which one cannot be had, none is. */
static medleyResult_t load_all(const char *list)
{
    char paths[MDL_CONFIG_TEXT_BYTES], *save = NULL;
    medleyResult_t res = medleySuccess;
    int before = all.n;

    snprintf(paths, sizeof(paths), "%s", list);
    for (char *path = strtok_r(paths, ",", &save); path && res == medleySuccess; path = strtok_r(NULL, ",", &save))
        res = load(path);
    if (res != medleySuccess) all.n = before;
    return res;
}

/* With the lock: index of the vendor of `len` letters, or -1. */
static int vendor_of(const char *vendor, size_t len)
{
    for (int i = 0; i < all.n; i++)
        if (strlen(all.vendor[i].ops->vendor) == len && strncmp(all.vendor[i].ops->vendor, vendor, len) == 0) return i;
    return -1;
}

/* With the lock. A folder for a vendor that there is not would be a wish that nobody hears. */
static medleyResult_t check_paths(const char *list)
{
    for (const char *at = list; *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ","), name = strcspn(at, "=");
        if (name + 1 >= n || vendor_of(at, name) < 0)
            return mdl_error(medleyInvalidArgument,
                             "MEDLEY_DEVICE_PATH: \"%.*s\" is not <vendor>=<folder> of a vendor that medley-info lists",
                             (int)n, at);
        at += n;
    }
    return medleySuccess;
}

/* With the lock. The first list of plugins counts: adapters cannot be taken away again. */
static medleyResult_t list_vendors(const struct mdl_config *cfg)
{
    if (!all.listed) {
        for (int i = 0; mdl_devices[i]; i++) MDL_TRY(add(mdl_devices[i], mdl_devices[i]->vendor));
        all.listed = true;
    }
    if (strcmp(all.plugins, cfg->device_plugin.s) != 0) {
        if (all.plugins[0])
            return mdl_error(medleyInvalidUsage, "MEDLEY_DEVICE_PLUGIN was %s in this process and cannot become %s",
                             all.plugins, cfg->device_plugin.s);
        MDL_TRY(load_all(cfg->device_plugin.s));
        snprintf(all.plugins, sizeof(all.plugins), "%s", cfg->device_plugin.s);
    }
    return check_paths(cfg->device_path.s);
}

/* MEDLEY_DEVICE_PATH: "cuda=/a,hip=/b". NULL: the vendor is not in it. */
static const char *folder_of(const struct mdl_config *cfg, const char *vendor, char *room, size_t bytes)
{
    size_t len = strlen(vendor);

    for (const char *at = cfg->device_path.s; *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        if (n > len && strncmp(at, vendor, len) == 0 && at[len] == '=') {
            snprintf(room, bytes, "%.*s", (int)(n - len - 1), at + len + 1);
            return room;
        }
        at += n;
    }
    return NULL;
}

/* With the lock. */
static bool bind(const struct mdl_config *cfg, int i, char *why, size_t why_bytes)
{
    const struct mdl_device *d = all.vendor[i].ops;
    char folder[MDL_CONFIG_TEXT_BYTES];

    why[0] = 0;
    if (all.vendor[i].bound) return true;
    all.vendor[i].bound = d->probe(d, folder_of(cfg, d->vendor, folder, sizeof(folder)), all.vendor[i].found,
                                   sizeof(all.vendor[i].found), why, why_bytes) == medleySuccess;
    return all.vendor[i].bound;
}

bool mdl_dev_row(const struct mdl_config *cfg, int index, struct mdl_dev_row *row)
{
    bool there;

    pthread_mutex_lock(&all.lock);
    there = list_vendors(cfg) == medleySuccess && index < all.n;
    if (there) {
        *row = (struct mdl_dev_row){.ops = all.vendor[index].ops};
        row->bound = bind(cfg, index, row->why, sizeof(row->why));
        snprintf(row->found, sizeof(row->found), "%s", all.vendor[index].found);
    }
    pthread_mutex_unlock(&all.lock);
    return there;
}

/* ---- names ---- */

struct wanted {
    char vendor[VENDOR_BYTES];
    int ordinal; /* -1: none was given */
};

static bool parse(const char *name, struct wanted *w)
{
    size_t n = strcspn(name, ":");
    char *end;
    long ordinal;

    if (n == 0 || n >= sizeof(w->vendor)) return false;
    memcpy(w->vendor, name, n);
    w->vendor[n] = 0;
    w->ordinal = -1;
    if (!name[n]) return true;
    ordinal = strtol(name + n + 1, &end, 10);
    if (end == name + n + 1 || *end || ordinal < 0 || ordinal > INT_MAX) return false;
    w->ordinal = (int)ordinal;
    return strcmp(w->vendor, "host") != 0 && strcmp(w->vendor, "auto") != 0;
}

static int vendor_number(const char *vendor) { return vendor_of(vendor, strlen(vendor)); }

static medleyResult_t unknown(const char *name)
{
    char names[MDL_ERROR_TEXT_BYTES / 2] = "host, auto";

    for (int i = 0; i < all.n; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, ", %s", all.vendor[i].ops->vendor);
    }
    return mdl_error(medleyInvalidArgument, "\"%s\" is not a device: it must be one of %s, or <vendor>:<number>", name,
                     names);
}

static bool is_special(const struct wanted *w) { return strcmp(w->vendor, "host") == 0 || strcmp(w->vendor, "auto") == 0; }

medleyResult_t mdl_dev_check_name(const struct mdl_config *cfg, const char *name)
{
    struct wanted w;
    medleyResult_t res;

    if (strcmp(name, "host") == 0) return medleySuccess;
    pthread_mutex_lock(&all.lock);
    res = list_vendors(cfg);
    if (res == medleySuccess && (!parse(name, &w) || (!is_special(&w) && vendor_number(w.vendor) < 0))) res = unknown(name);
    pthread_mutex_unlock(&all.lock);
    return res;
}

/* With the lock: the one vendor that is here, of those that are generic or of the others. */
static medleyResult_t find_among(const struct mdl_config *cfg, bool generic, int *found)
{
    char why[768];

    for (int i = 0; i < all.n; i++) {
        const struct mdl_device *d = all.vendor[i].ops;
        if (d->generic != generic || !bind(cfg, i, why, sizeof(why)) || (d->caps(d) & MDL_DEV_CPU)) continue;
        if (*found >= 0)
            return mdl_error(medleyInvalidArgument,
                             "device \"auto\": both %s and %s are here; name one of them in MEDLEY_DEVICE",
                             all.vendor[*found].ops->vendor, d->vendor);
        *found = i;
    }
    return medleySuccess;
}

static medleyResult_t find_present(const struct mdl_config *cfg, int *found)
{
    *found = -1;
    MDL_TRY(find_among(cfg, false, found));
    return *found < 0 ? find_among(cfg, true, found) : medleySuccess;
}

static medleyResult_t take(const struct mdl_device *d, int ordinal, const char *name, struct mdl_dev *dev)
{
    int n = 0;

    MDL_TRY(d->count(d, &n));
    if (ordinal < 0 && (!d->current || d->current(d, &ordinal) != medleySuccess)) ordinal = 0;
    if (ordinal >= n)
        return mdl_error(medleyInvalidArgument, "device \"%s\": there are %d devices of %s here, numbered from 0", name, n,
                         d->title);
    *dev = (struct mdl_dev){.ops = d, .ordinal = ordinal, .caps = d->caps(d)};
    return medleySuccess;
}

/* With the lock. */
static medleyResult_t find(const struct mdl_config *cfg, const char *name, struct mdl_dev *dev)
{
    char why[768];
    struct wanted w;
    int i = -1;

    MDL_TRY(list_vendors(cfg));
    if (!parse(name, &w)) return unknown(name);
    if (strcmp(w.vendor, "auto") == 0) {
        MDL_TRY(find_present(cfg, &i));
        if (i < 0) return medleySuccess; /* the host */
        return take(all.vendor[i].ops, -1, name, dev);
    }
    i = vendor_number(w.vendor);
    if (i < 0) return unknown(name);
    if (!bind(cfg, i, why, sizeof(why)))
        return mdl_error(medleyInvalidArgument, "device \"%s\" cannot be used: %s (medley-info shows all)", name, why);
    return take(all.vendor[i].ops, w.ordinal, name, dev);
}

medleyResult_t mdl_dev_find(const struct mdl_config *cfg, const char *name, struct mdl_dev *dev)
{
    medleyResult_t res;

    *dev = (struct mdl_dev){0};
    if (strcmp(name, "host") == 0) return medleySuccess;
    pthread_mutex_lock(&all.lock);
    res = find(cfg, name, dev);
    pthread_mutex_unlock(&all.lock);
    return res;
}

void mdl_dev_name(const struct mdl_dev *dev, char *text, size_t bytes)
{
    if (dev->ops)
        snprintf(text, bytes, "%s:%d", dev->ops->vendor, dev->ordinal);
    else
        snprintf(text, bytes, "host");
}

/* ---- the current device ---- */

medleyResult_t mdl_dev_enter(const struct mdl_dev *dev, struct mdl_dev_visit *visit)
{
    int before = -1;

    if (!dev->ops->current || dev->ops->current(dev->ops, &before) != medleySuccess) before = -1;
    MDL_TRY(dev->ops->enter(dev->ops, dev->ordinal));
    visit->before = before == dev->ordinal ? -1 : before;
    return medleySuccess;
}

void mdl_dev_leave(const struct mdl_dev *dev, struct mdl_dev_visit *visit)
{
    if (visit->before >= 0) (void)dev->ops->enter(dev->ops, visit->before); /* it was current a moment ago */
    visit->before = -1;
}

/* ---- collective libraries ---- */

const struct mdl_native *mdl_dev_native(const struct mdl_config *cfg, const struct mdl_device *d, char *text,
                                        size_t bytes)
{
    char folder[MDL_CONFIG_TEXT_BYTES], found[128] = "", why[768] = "";
    const struct mdl_native *n = d->native;
    const char *where = folder_of(cfg, d->vendor, folder, sizeof(folder));

    if (!n) {
        snprintf(text, bytes, "none: Medley knows no collective library of this vendor");
        return NULL;
    }
    if (n->probe(n, where, found, sizeof(found), why, sizeof(why)) != medleySuccess) {
        snprintf(text, bytes, "%s%s", n->caps ? "none: " : "", why); /* a library without is not supported: says so */
        return NULL;
    }
    snprintf(text, bytes, "%s", found);
    return n;
}
