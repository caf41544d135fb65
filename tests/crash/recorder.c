/* kilat-recorder: records what a file system writes to its disk, and builds the disk as a power cut leaves it. */
#include "tests/crash/recorder.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int recorder_open(const char *folder, const char *name, int flags)
{
    char *path;
    int fd;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        errx(2, "out of memory");
    fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        err(2, "%s", path);
    free(path);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "disk") == 0)
        return recorder_disk(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "now") == 0)
        return recorder_now(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "draw") == 0)
        return recorder_draw(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "cut") == 0)
        return recorder_cut(argc - 1, argv + 1);
    fprintf(stderr,
            "kilat-recorder disk RECORDING MOUNT-POINT LEDGER...\n"
            "    serves RECORDING/image as MOUNT-POINT/disk and records what is done to it\n"
            "kilat-recorder now RECORDING\n"
            "    prints the moment of the newest operation\n"
            "kilat-recorder draw RECORDING FROM COUNT SEED\n"
            "    prints COUNT moments after FROM, in order\n"
            "kilat-recorder cut RECORDING MOMENT none|all|some|torn SEED IMAGE\n"
            "    makes IMAGE what a power cut at MOMENT leaves; moments must not go back, but to "
            "begin anew\n"
            "    prints its pending writes, those of them that are whole or in part on the disk, "
            "and of each ledger\n"
            "    its bytes at MOMENT\n");
    return 2;
}
