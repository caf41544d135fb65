/* quiet_fork.c - in every Criterion program: no fork while another thread is at work.
 *
 * Criterion runs each test in a forked child, and its own messaging thread may at that moment hold a lock of ASan's
 * allocator, which gcc 12's does not release in the child: the child's first allocation then waits for ever. So the fork
 * waits until all other threads sleep. They sleep in epoll_wait() or on a condition, never with that lock: the allocator
 * does not sleep under it. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 2 /* then it forks all the same: a test may keep a thread busy on purpose */

static bool thread_sleeps(const char *tid)
{
    char path[64], text[512];
    const char *state;
    ssize_t size;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; /* it has ended meanwhile */
    size = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[size > 0 ? size : 0] = 0;
    state = strrchr(text, ')'); /* the name before it may hold anything */
    return state == NULL || (state[1] == ' ' && state[2] == 'S');
}

static bool others_sleep(void)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    bool asleep = true;

    if (tasks == NULL)
        return true;
    while (asleep && (task = readdir(tasks)) != NULL) {
        if (task->d_name[0] != '.' && atoi(task->d_name) != gettid())
            asleep = thread_sleeps(task->d_name);
    }
    (void)closedir(tasks);
    return asleep;
}

static void wait_for_quiet(void)
{
    time_t until = time(NULL) + PATIENCE_S;

    while (!others_sleep() && time(NULL) <= until)
        (void)sched_yield();
}

__attribute__((constructor)) static void watch_forks(void)
{
    (void)pthread_atfork(wait_for_quiet, NULL, NULL);
}
