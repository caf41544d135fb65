/* planted_race.c - a data race made on purpose: two threads count in one plain variable. TSan must
 * report it, or it would not report ours either. */
#include <pthread.h>
#include <stddef.h>

static void *count(void *counter)
{
    for (int i = 0; i < 10000; i++)
        (*(volatile int *)counter)++;
    return NULL;
}

int main(void)
{
    pthread_t other;
    int counter = 0;

    if (pthread_create(&other, NULL, count, &counter) != 0)
        return 2;
    count(&counter);
    pthread_join(other, NULL);
    return 0;
}
