/* tests/threads/test_seccomp.c - a process to which io_uring_setup is denied, as containers do
 * it.
 *
 * Without arguments: the probe's sentence names seccomp and the flags that help, for both errors
 * that container engines answer. With arguments ERRNO PROGRAM ARGS...: runs PROGRAM under such a
 * filter, so that a whole server can be started in it.
 * */
#include "core/assert.h"
#include "core/ring.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void deny_io_uring_setup(int error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(program), .filter = program};

    ASSERT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    ASSERT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

static void expect_sentence(int error)
{
    static const char *const words[] = {"seccomp",
                                        "docker run --security-opt seccomp=",
                                        "podman run --security-opt seccomp=",
                                        "io_uring_setup",
                                        "io_uring_enter",
                                        "io_uring_register"};
    char text[1024];
    int status;
    pid_t child = fork();

    ASSERT(child >= 0);
    if (child == 0) {
        deny_io_uring_setup(error);
        ASSERT(ring_probe("/proc/sys/kernel/io_uring_disabled", text, sizeof(text)) == -error);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
            if (strstr(text, words[i]) != NULL)
                continue;
            fprintf(stderr, "'%s' is not in: %s\n", words[i], text);
            _exit(1);
        }
        _exit(0);
    }
    ASSERT(waitpid(child, &status, 0) == child);
    ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        deny_io_uring_setup(strcmp(argv[1], "ENOSYS") == 0 ? ENOSYS : EPERM);
        execv(argv[2], argv + 2);
        perror(argv[2]);
        return 127;
    }
    expect_sentence(EPERM);
    expect_sentence(ENOSYS);
    return 0;
}
