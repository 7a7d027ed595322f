// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test module: a thread that may not set its own scheduling attributes
 *
 * Without a security module nothing refuses that to a thread. With this one
 * security_task_setscheduler() returns error, if that is not 0, when a thread
 * named comm asks for itself. It is the capability module's hook that is probed:
 * the function itself begins with a static branch, where no probe can be.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/string.h>

static char comm[TASK_COMM_LEN];
module_param_string(comm, comm, sizeof(comm), 0644);
MODULE_PARM_DESC(comm, "Name of the threads that are refused");

static int error = -EPERM;
module_param(error, int, 0644);
MODULE_PARM_DESC(error, "What they are told, e.g. -1 for -EPERM; 0: nobody is refused");

/* The function's argument is the task; the thread is refused only for itself. */
static int setscheduler_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct task_struct *p = (void *)regs_get_kernel_argument(regs, 0);

	return !error || p != current || strcmp(current->comm, comm);
}

NOKPROBE_SYMBOL(setscheduler_entry);

static int setscheduler_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	regs_set_return_value(regs, (unsigned long)error);
	return 0;
}

NOKPROBE_SYMBOL(setscheduler_return);

static struct kretprobe setscheduler_probe = {
	.kp.symbol_name	= "cap_task_setscheduler",
	.entry_handler	= setscheduler_entry,
	.handler	= setscheduler_return,
};

static int __init test_setscheduler_init(void)
{
	return register_kretprobe(&setscheduler_probe);
}
module_init(test_setscheduler_init);

static void __exit test_setscheduler_exit(void)
{
	unregister_kretprobe(&setscheduler_probe);
}
module_exit(test_setscheduler_exit);

MODULE_DESCRIPTION("Test module: threads that may not set their scheduling attributes");
MODULE_LICENSE("GPL");
