/* SPDX-License-Identifier: Apache-2.0 */
/* A program of a user: C99 and C++ at once. Checks that the library that it runs with is the one of its header. */
#include <medley.h>
#include <stdio.h>

int main(void)
{
    int version = 0;
    medleyResult_t result = medleyGetVersion(&version);
    printf("medley %d: %s\n", version, medleyGetErrorString(result));
    return result == medleySuccess && version == MEDLEY_VERSION_CODE ? 0 : 1;
}
