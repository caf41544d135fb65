/* kilat-crashfs MOUNT-POINT: serves an empty file system that forgets what was not synced (crashfs.h). */
#include "tests/crash/crashfs.h"

#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define THREADS_MAX 64 /* each sync and each durable write waits in one */

int main(int argc, char **argv)
{
    static struct crashfs fs = {.next_inode = FUSE_ROOT_ID,
                                .space_blocks = UINT32_MAX,
                                .until_frozen = UINT64_MAX,
                                .delay_us = 0};
    char flag[] = "-o";
    char options[] = "default_permissions,allow_other,fsname=crashfs,subtype=crashfs";
    char *arguments[] = {argv[0], flag, options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    struct fuse_session *session;
    int r;

    if (argc != 2)
        errx(2, "expected MOUNT-POINT");
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a mount without its test would stay for ever */
    pthread_mutex_init(&fs.lock, NULL);
    fs.root = crashfs_node_create(&fs, S_IFDIR | 0755, 0, 0);
    session = fuse_session_new(&args, &crashfs_ops, sizeof(crashfs_ops), &fs);
    if (session == NULL || config == NULL || fuse_set_signal_handlers(session) != 0 ||
        fuse_session_mount(session, argv[1]) != 0)
        errx(2, "%s: cannot mount", argv[1]);
    fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
    r = fuse_session_loop_mt(session, config);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? 1 : 0;
}
