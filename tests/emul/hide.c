/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EMUL_FAULT=missing=NAME: the symbol NAME is not in the object, as in an older release of it. The constructor of each
 * thin object asks for this while dlopen still runs; the entry of its dynamic symbol table becomes an undefined one,
 * which lookups pass over.
 */
#include "config.h"
#include "tests/emul/engine.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* In the loaded image: glibc relocates these pointers, other systems do not. */
static const void *pointer(const struct link_map *map, ElfW(Addr) value)
{
    return (const void *)(uintptr_t)(value < map->l_addr ? value + map->l_addr : value);
}

static void hide(const struct link_map *map, const char *name)
{
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    for (const ElfW(Dyn) *at = map->l_ld; at->d_tag != DT_NULL; at++) {
        if (at->d_tag == DT_SYMTAB) symbols = pointer(map, at->d_un.d_ptr);
        if (at->d_tag == DT_STRTAB) strings = pointer(map, at->d_un.d_ptr);
        if (at->d_tag == DT_HASH) hash = pointer(map, at->d_un.d_ptr);
    }
    if (!symbols || !strings || !hash) return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (uint32_t i = 0; i < hash[1]; i++) {
        if (strcmp(strings + symbols[i].st_name, name) != 0) continue;
        ElfW(Sym) *symbol = (ElfW(Sym) *)(uintptr_t)&symbols[i];
        uintptr_t first = (uintptr_t)symbol & ~(page - 1);
        size_t size = (uintptr_t)(symbol + 1) - first;
        if (mprotect((void *)first, size, PROT_READ | PROT_WRITE) != 0) {
            perror("emul: mprotect of a symbol table");
            return;
        }
        symbol->st_value = 0;
        symbol->st_shndx = SHN_UNDEF;
    }
}

void emul_hide(int vendor, const void *inside)
{
    const char *text = getenv("EMUL_FAULT");
    Dl_info info;
    struct link_map *map = NULL;
    if (!text || !dladdr1(inside, &info, (void **)&map, RTLD_DL_LINKMAP) || !map) return;
    for (const char *at = text; *at; at += strcspn(at, ","), at += *at == ',') {
        const char *item = at;
        size_t head = strlen(emul_vendor_name(vendor));
        if (strncmp(item, emul_vendor_name(vendor), head) == 0 && item[head] == ':') item += head + 1;
        if (strncmp(item, "missing=", 8) != 0) continue;
        char name[128];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(item + 8, ","), item + 8);
        hide(map, name);
    }
}
