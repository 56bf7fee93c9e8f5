/* SPDX-License-Identifier: Apache-2.0 */
/* The list of vendors, built in and loaded, and names of devices. */
#include "config.h"

#include "lib/dev/dev.h"
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "lib/dev/check.h"

#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VENDORS = 64 };

struct vendor {
    const struct mdl_device *ops; /* NULL: refused */
    char name[MDL_VENDOR_BYTES];  /* "": none that it could be asked for by */
    char from[MDL_CONFIG_TEXT_BYTES]; /* of a plugin */
    bool bound;
    char found[256], refused[MDL_ERROR_TEXT_BYTES]; /* why it will never be used, "" if it may be */
};

static struct {
    pthread_mutex_t lock;
    bool listed;
    int n;
    struct vendor vendor[MAX_VENDORS];
    char plugins[MDL_CONFIG_TEXT_BYTES]; /* that have been loaded */
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int vendor_of(const char *vendor, size_t len);

/* ---- the list ---- */

/* One that cannot be used is listed too: whoever asks for it gets the reason. The others are none the worse for it. */
static void refuse(struct vendor *v, const char *why)
{
    char text[sizeof(v->refused)];

    snprintf(text, sizeof(text), "plugin %.250s: %s", v->from, why);
    snprintf(v->refused, sizeof(v->refused), "%s", text);
    v->ops = NULL;
    MDL_WARN(MDL_INIT, "%s", v->refused);
}

static struct vendor *new_vendor(const char *from)
{
    struct vendor *v = &all.vendor[all.n];

    if (all.n == MAX_VENDORS) {
        MDL_WARN(MDL_INIT, "plugin %s is left out: there are %d device adapters already", from, MAX_VENDORS);
        return NULL;
    }
    *v = (struct vendor){0};
    snprintf(v->from, sizeof(v->from), "%s", from);
    all.n++;
    return v;
}

static void add_own(const struct mdl_device *d)
{
    struct vendor *v = new_vendor(d->vendor);

    if (!v) return;
    v->ops = d;
    snprintf(v->name, sizeof(v->name), "%s", d->vendor);
}

/* May be called by the plugin whenever it works. */
static medleyResult_t plugin_error(medleyResult_t code, const char *format, ...)
{
    char text[MDL_ERROR_TEXT_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return mdl_error(code, "%s", text);
}

/* Not NULL: what the object offers, whatever it is worth. Stays loaded: what it gave is used until the process ends. */
static const struct mdl_device *load(const char *path, char *why, size_t bytes)
{
    static const struct mdl_services services = {.size = sizeof(services), .error = plugin_error};
    const struct mdl_device *(*get)(const struct mdl_services *);
    const struct mdl_device *d;
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!object) {
        snprintf(why, bytes, "%s", dlerror());
        return NULL;
    }
    *(void **)&get = dlsym(object, "medley_device_v1");
    d = get ? get(&services) : NULL;
    if (d) return d;
    dlclose(object);
    snprintf(why, bytes, "it %s", get ? "offers no device" : "has no medley_device_v1");
    return NULL;
}

static void add_plugin(const char *path)
{
    char why[MDL_ERROR_TEXT_BYTES];
    struct vendor *v = new_vendor(path);
    const struct mdl_device *d;

    if (!v) return;
    d = load(path, why, sizeof(why));
    if (!d || !mdl_dev_check_shape(d, why, sizeof(why))) return refuse(v, why);
    if (mdl_dev_check_vendor(d->vendor)) {
        if (vendor_of(d->vendor, strlen(d->vendor)) >= 0) {
            snprintf(why, sizeof(why), "it is for \"%s\", which there is already", d->vendor);
            return refuse(v, why);
        }
        snprintf(v->name, sizeof(v->name), "%s", d->vendor);
    }
    if (!mdl_dev_check_table(d, why, sizeof(why))) return refuse(v, why);
    v->ops = d;
}

static void load_all(const char *list)
{
    char paths[MDL_CONFIG_TEXT_BYTES], *save = NULL;

    snprintf(paths, sizeof(paths), "%s", list);
    for (char *path = strtok_r(paths, ",", &save); path; path = strtok_r(NULL, ",", &save)) add_plugin(path);
}

/* With the lock: index of the vendor of `len` letters, or -1. */
static int vendor_of(const char *vendor, size_t len)
{
    for (int i = 0; i < all.n; i++)
        if (len && strlen(all.vendor[i].name) == len && strncmp(all.vendor[i].name, vendor, len) == 0) return i;
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
        for (int i = 0; mdl_devices[i]; i++) add_own(mdl_devices[i]);
        all.listed = true;
    }
    if (strcmp(all.plugins, cfg->device_plugin.s) != 0) {
        if (all.plugins[0])
            return mdl_error(medleyInvalidUsage, "MEDLEY_DEVICE_PLUGIN was %s in this process and cannot become %s",
                             all.plugins, cfg->device_plugin.s);
        load_all(cfg->device_plugin.s);
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
    struct vendor *v = &all.vendor[i];
    const struct mdl_device *d = v->ops;
    char folder[MDL_CONFIG_TEXT_BYTES], wrong[MDL_ERROR_TEXT_BYTES];

    why[0] = 0;
    if (v->bound) return true;
    if (!v->refused[0]) {
        if (d->probe(d, folder_of(cfg, v->name, folder, sizeof(folder)), v->found, sizeof(v->found), why, why_bytes) !=
            medleySuccess)
            return false;
        v->bound = mdl_dev_check_bound(d, wrong, sizeof(wrong));
        if (v->bound) return true;
        refuse(v, wrong);
    }
    snprintf(why, why_bytes, "%s", v->refused);
    return false;
}

bool mdl_dev_row(const struct mdl_config *cfg, int index, struct mdl_dev_row *row)
{
    bool there;

    pthread_mutex_lock(&all.lock);
    there = list_vendors(cfg) == medleySuccess && index < all.n;
    if (there) {
        const struct vendor *v = &all.vendor[index];
        *row = (struct mdl_dev_row){0};
        row->bound = bind(cfg, index, row->why, sizeof(row->why));
        row->ops = v->ops;
        snprintf(row->found, sizeof(row->found), "%s", v->found);
        snprintf(row->name, sizeof(row->name), "%s", v->name[0] ? v->name : v->from);
    }
    pthread_mutex_unlock(&all.lock);
    return there;
}

/* ---- names ---- */

struct wanted {
    char vendor[MDL_VENDOR_BYTES];
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
    if (!isdigit((unsigned char)name[n + 1])) return false; /* strtol takes blanks and signs */
    ordinal = strtol(name + n + 1, &end, 10);
    if (*end || ordinal > INT_MAX) return false;
    w->ordinal = (int)ordinal;
    return strcmp(w->vendor, "host") != 0 && strcmp(w->vendor, "auto") != 0;
}

static int vendor_number(const char *vendor) { return vendor_of(vendor, strlen(vendor)); }

static medleyResult_t unknown(const char *name)
{
    char names[MDL_ERROR_TEXT_BYTES / 2] = "host, auto";
    const char *refused = NULL;

    for (int i = 0; i < all.n; i++) {
        const struct vendor *v = &all.vendor[i];
        size_t used = strlen(names);
        if (v->ops) snprintf(names + used, sizeof(names) - used, ", %s", v->name);
        if (!v->name[0] && !refused) refused = v->refused; /* it may have been the one that was meant */
    }
    return mdl_error(medleyInvalidArgument, "\"%.64s\" is not a device: it must be one of %s, or <vendor>:<number>%s%s",
                     name, names, refused ? "; " : "", refused ? refused : "");
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
        if (!d || d->generic != generic || !bind(cfg, i, why, sizeof(why)) || (d->caps(d) & MDL_DEV_CPU)) continue;
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

/* With the lock: one device of each vendor that is in use, can tell pointers and has memory of its own. Only grows. */
static struct {
    _Atomic int n;
    struct mdl_dev dev[MAX_VENDORS];
} taken;

static void remember(const struct mdl_dev *dev)
{
    int n = atomic_load_explicit(&taken.n, memory_order_relaxed);

    if (!(dev->caps & MDL_DEV_POINTERS) || (dev->caps & MDL_DEV_HOST_ACCESS)) return;
    for (int i = 0; i < n; i++)
        if (taken.dev[i].ops == dev->ops) return;
    taken.dev[n] = *dev;
    atomic_store_explicit(&taken.n, n + 1, memory_order_release); /* pairs with mdl_dev_check_host */
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
    remember(dev);
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

/* ---- pointers of others ---- */

/* A vendor that cannot be asked now says nothing. */
static bool is_on(const struct mdl_dev *dev, const void *p, int *ordinal)
{
    struct mdl_dev_visit visit;
    struct mdl_pointer where = {.kind = MDL_POINTER_HOST};

    if (mdl_dev_enter(dev, &visit) != medleySuccess) return false;
    if (dev->ops->classify(dev->ops, p, &where) != medleySuccess) where.kind = MDL_POINTER_HOST;
    mdl_dev_leave(dev, &visit);
    *ordinal = where.ordinal;
    return where.kind == MDL_POINTER_DEVICE;
}

medleyResult_t mdl_dev_check_host(const struct mdl_dev *own, const void *p)
{
    int n = atomic_load_explicit(&taken.n, memory_order_acquire), ordinal; /* pairs with remember */

    for (int i = 0; i < n; i++) {
        struct mdl_dev other = taken.dev[i];
        if (other.ops == own->ops || !is_on(&other, p, &ordinal)) continue;
        return mdl_error(medleyInvalidArgument, "buffer %p is on %s:%d, but this rank's device is %s:%d", p,
                         other.ops->vendor, ordinal >= 0 ? ordinal : other.ordinal, own->ops->vendor, own->ordinal);
    }
    return medleySuccess;
}

/* ---- collective libraries ---- */

/* `text` must say why not. */
static bool bind_native(const struct mdl_config *cfg, const struct mdl_device *d, char *text, size_t bytes)
{
    const struct mdl_native *n = d->native;
    char folder[MDL_CONFIG_TEXT_BYTES], found[128] = "", why[768] = "";

    if (!mdl_native_check_table(n, why, sizeof(why))) {
        snprintf(text, bytes, "none: %s", why);
        return false;
    }
    if (n->probe(n, folder_of(cfg, d->vendor, folder, sizeof(folder)), found, sizeof(found), why, sizeof(why)) !=
        medleySuccess) {
        snprintf(text, bytes, "%s%s", n->caps ? "none: " : "", why); /* a library without is not supported: says so */
        return false;
    }
    if (!mdl_native_check_bound(n, why, sizeof(why))) {
        snprintf(text, bytes, "none: the adapter's %s cannot be used: %s", n->name, why);
        return false;
    }
    snprintf(text, bytes, "%s", found);
    return true;
}

const struct mdl_native *mdl_dev_native(const struct mdl_config *cfg, const struct mdl_device *d, char *text,
                                        size_t bytes)
{
    if (d->native) return bind_native(cfg, d, text, bytes) ? d->native : NULL;
    snprintf(text, bytes, "none: Medley knows no collective library of this vendor");
    return NULL;
}
