/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shareable memory: segments that other ranks of the host can map, known by a process-wide random id. A segment is a
 * memfd; where memfd_create is refused it is an unlinked file in /dev/shm, then in $TMPDIR, and with no way at all it
 * is ordinary memory that cannot be shared (fd -1). Nothing of it has a name that could outlive the process. All
 * functions: any thread.
 */
#ifndef MDL_MEM_MEM_H_
#define MDL_MEM_MEM_H_

#include "lib/base/config.h"
#include "lib/mem/arena.h"
#include <medley/plugin.h>

struct mdl_segment {
    uint64_t id;
    void *base;
    size_t len;
    int fd;         /* -1: it cannot be shared, or */
    bool withdrawn; /* not any more, or */
    uint64_t arena; /* not 0: it is a piece of the process's arena, which others map by its place */
    struct mdl_arena_view piece;
    bool orphaned; /* others that map it may have died, and nobody needs it any more */
};

/* Zeroed, page-aligned. `sparse`: pages are backed when touched (else reserved now, so that a full file system is an
 * error here and no SIGBUS later). huge: ask for huge pages. */
medleyResult_t mdl_segment_create(size_t len, bool sparse, bool huge, struct mdl_segment **segment) MDL_MUST_USE;
/* Sparse, a piece of the arena if there is one for communicators of so many ranks, else as above. */
medleyResult_t mdl_segment_create_cut(size_t len, int nranks, struct mdl_segment **segment) MDL_MUST_USE;
/* The same, but nobody can share it: what is left when every place is too small. */
medleyResult_t mdl_segment_create_private(size_t len, struct mdl_segment **segment) MDL_MUST_USE;
/* `orphaned`, set before: its pages go even if others never say that they have left. */
void mdl_segment_destroy(struct mdl_segment *segment);
/* Everybody who is to map it has done so: gives its descriptor back. It goes on to exist. */
void mdl_segment_withdraw(struct mdl_segment *segment);

/* Is it a file on a file system of limited size? Then touching a page of a sparse one may be SIGBUS. */
bool mdl_segment_is_limited(const struct mdl_segment *segment);

/* The segment that holds all of [ptr, ptr + len), as a description; kind HOST with segment 0 if there is none. Cheap:
 * called for every buffer of every operation. */
void mdl_mem_describe(const void *ptr, size_t len, struct mdl_mem *mem);

/* A new descriptor (close-on-exec, owned by the caller) of a live segment, or -1 with an errno: ENOENT if there is none
 * or it cannot be shared, EPERM if it was withdrawn. */
int mdl_segment_dup_fd(uint64_t id);

/* Maps a segment from a received descriptor. The size is checked against the file; sealed or shrunk files are refused.
 */
medleyResult_t mdl_segment_import(int fd, size_t len, void **addr) MDL_MUST_USE;
void mdl_segment_unimport(void *addr, size_t len);

/* A sparse memfd of so many bytes, whose size is sealed; -1: it cannot be had. */
int mdl_segment_memfd(uint64_t len);

/* medleyMemAlloc, medleyMemFree. 0 bytes are NULL, and NULL may be freed; anything else that was not allocated so is
 * InvalidArgument. */
medleyResult_t mdl_mem_alloc(const struct mdl_config *cfg, size_t len, void **ptr) MDL_MUST_USE;
medleyResult_t mdl_mem_free(void *ptr);

#endif
