/* tests/sim/sim_fiber.c - stacks that take turns.
 *
 * A fiber runs until it waits; the scheduler (an event) gives it its next turn. A killed process's fibers simply get
 * no further turn, wherever they stand: that is what makes a crash possible between any two calls of the door.
 * Stacks of fibers that ended are used again; those of killed ones never, because ASan has marked them and
 * because what lies on them may still be looked at by nobody.
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (1024 * KIB) /* red zones make frames larger */
#else
#define STACK_BYTES (256 * KIB)
#endif
#define STACKS_FREE_MAX 64

/* Saves the registers that a call preserves on the stack it leaves and takes those of the stack it enters. Of our own,
 * because swapcontext() makes two system calls each time and ASan warns of it. */
void sim_switch(void **save_stack, void *load_stack);
__asm__(".text\n"
        ".global sim_switch\n"
        ".type sim_switch, @function\n"
        "sim_switch:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size sim_switch, . - sim_switch\n");
#define SWITCH_REGISTERS 6

static void *scheduler_at; /* its stack pointer while a fiber runs */
static void *stacks_free[STACKS_FREE_MAX];
static size_t stacks_free_count;
#ifdef __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
#endif

static void *stack_take(void)
{
    void *stack;

    if (stacks_free_count > 0)
        return stacks_free[--stacks_free_count];
    stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(stack != MAP_FAILED);
    return stack;
}

static void stack_give(void *stack)
{
    if (stacks_free_count < STACKS_FREE_MAX)
        stacks_free[stacks_free_count++] = stack;
    else
        (void)munmap(stack, STACK_BYTES);
}

/* Back to the scheduler; returns with the fiber's next turn. */
static void fiber_leave(struct sim_fiber *fiber, bool for_good)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_good ? NULL : &fiber->fake_stack, scheduler_stack,
                                   scheduler_stack_bytes);
#else
    (void)for_good;
#endif
    sim_switch(&fiber->at, scheduler_at);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fiber->fake_stack, NULL, NULL);
#endif
}

static void fiber_main(void)
{
    struct sim_fiber *fiber = sim.fiber;

#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_stack_bytes);
#endif
    fiber->run(fiber->argument);
    fiber->done = true;
    fiber_leave(fiber, true);
    ASSERT(false);
}

static void fiber_ended(struct sim_fiber *fiber)
{
    struct list_node *node;

    list_remove(&fiber->node);
    stack_give(fiber->stack);
    fiber->stack = NULL;
    while ((node = list_pop_front(&fiber->joiners)) != NULL)
        sim_wake(CONTAINER_OF(node, struct sim_join_wait, node)->fiber);
}

static void fiber_turn(struct sim_event *event)
{
    struct sim_fiber *fiber = CONTAINER_OF(event, struct sim_fiber, event);
#ifdef __SANITIZE_ADDRESS__
    void *fake_stack = NULL;
#endif

    fiber->waiting = false;
    sim.fiber = fiber;
    sim.process = fiber->process;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack, STACK_BYTES);
#endif
    sim_switch(&scheduler_at, fiber->at);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    sim.fiber = NULL;
    sim.process = NULL;
    if (fiber->done)
        fiber_ended(fiber);
}

/* As if fiber_main() had been called, and then left by sim_switch(). */
static void stack_prepare(struct sim_fiber *fiber)
{
    void **top = (void **)((uint8_t *)fiber->stack + STACK_BYTES);

    *--top = NULL; /* where fiber_main() would return to; also what aligns its frame */
    *--top = (void *)fiber_main;
    for (int i = 0; i < SWITCH_REGISTERS; i++)
        *--top = NULL;
    fiber->at = top;
}

struct sim_fiber *sim_fiber_start(struct sim_process *process, sim_fiber_fn *run, void *argument,
                                  uint64_t at_ns)
{
    struct sim_fiber *fiber =
        calloc(1, sizeof(*fiber)); /* lives as long as the world: joiners may look at it */

    ASSERT(fiber != NULL);
    fiber->stack = stack_take();
    fiber->run = run;
    fiber->argument = argument;
    fiber->process = process;
    list_init(&fiber->joiners);
    list_node_init(&fiber->node);
    if (process != NULL)
        list_push_back(&process->fibers, &fiber->node);
    stack_prepare(fiber);
    sim_event_arm(&fiber->event, at_ns, fiber_turn);
    return fiber;
}

void sim_fiber_abandon(struct sim_fiber *fiber)
{
    sim_event_cancel(&fiber->event);
    list_remove(&fiber->node);
    fiber->waiting = false;
}

void sim_fiber_never_again(void)
{
    fiber_leave(sim.fiber, false);
    ASSERT(false); /* a dead fiber has no next turn */
}

void sim_sleep(uint64_t ns)
{
    struct sim_fiber *fiber = sim.fiber;

    ASSERT(fiber != NULL);
    sim_event_arm(&fiber->event, sim.now_ns + ns, fiber_turn);
    fiber_leave(fiber, false);
}

void sim_wait(uint64_t deadline_ns)
{
    struct sim_fiber *fiber = sim.fiber;

    ASSERT(fiber != NULL);
    fiber->waiting = true;
    if (deadline_ns != UINT64_MAX)
        sim_event_arm(&fiber->event, MAX(deadline_ns, sim.now_ns), fiber_turn);
    fiber_leave(fiber, false);
}

void sim_wake(struct sim_fiber *fiber)
{
    if (fiber == NULL || !fiber->waiting)
        return;
    fiber->waiting = false; /* the turn is given; another wake must not move it */
    sim_event_cancel(&fiber->event);
    /* A thread that slept needs a moment to run; meanwhile more may complete, as on a real machine. */
    sim_event_arm(&fiber->event, sim.now_ns + sim_between(500, 20000), fiber_turn);
}

void sim_join(struct sim_fiber *fiber)
{
    struct sim_join_wait wait = {.fiber = sim.fiber};

    list_node_init(&wait.node);
    while (!fiber->done) {
        list_push_back(&fiber->joiners, &wait.node);
        sim_wait(UINT64_MAX);
        list_remove(&wait.node);
    }
}
