// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test module: CPUs with frequencies
 *
 * A cpufreq driver with fast switch for machines whose CPUs have no frequencies
 * of their own, such as emulated ones. Nothing gets faster or slower, but the
 * governor decides, and frequency invariance follows, as with a real driver.
 *
 * Every change of frequency is recorded, in the order in which they happened:
 * /sys/kernel/debug/test_cpufreq/transitions has a line of these for each:
 *
 *	number			from 0 on
 *	counter			get_cycles() (arm64: CNTVCT) after the change
 *	policy			the first CPU of the policy
 *	old, new		frequencies, kHz
 *	cpu			the CPU that made the change
 *	pid			the thread that ran on it
 *	context			task, softirq or hardirq
 *
 * Writing to the file forgets what has been recorded.
 *
 * The highest frequency must be the same each time the module is loaded, because
 * the architecture takes it into capacity_freq_ref once per boot.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpufreq.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/timex.h>

#define MAX_FREQS	64
#define NR_TRANSITIONS	512

static unsigned int freqs[MAX_FREQS] = { 500000, 1000000, 1500000, 2000000 };
static unsigned int nr_freqs = 4;
module_param_array(freqs, uint, &nr_freqs, 0444);
MODULE_PARM_DESC(freqs, "Frequencies in kHz, ascending");

static bool shared;
module_param(shared, bool, 0444);
MODULE_PARM_DESC(shared, "All CPUs share one policy (default: a policy for each CPU)");

static bool fast_switch = true;
module_param(fast_switch, bool, 0444);
MODULE_PARM_DESC(fast_switch, "The scheduler can switch frequencies itself (default: Y)");

static struct cpufreq_frequency_table freq_table[MAX_FREQS + 1];

/* In kHz, by the first CPU of the policy; kept while that policy is offline. */
static DEFINE_PER_CPU(unsigned int, cur_freq);

struct transition {
	u64 counter;
	unsigned int policy;
	unsigned int old_freq;
	unsigned int new_freq;
	unsigned int cpu;
	pid_t pid;
	const char *context;
};

/* Number n is at [n % NR_TRANSITIONS]; the newest ones are there. */
static struct transition transitions[NR_TRANSITIONS];
static unsigned int nr_transitions;
static DEFINE_RAW_SPINLOCK(transitions_lock);

static const char *context(void)
{
	if (in_hardirq())
		return "hardirq";
	return in_serving_softirq() ? "softirq" : "task";
}

/* Called with the rq lock of some CPU held (fast switch) or from a task. */
static void change_freq(struct cpufreq_policy *policy, unsigned int freq)
{
	unsigned int first = cpumask_first(policy->related_cpus);
	unsigned int old = per_cpu(cur_freq, first);
	struct transition *t;
	unsigned long flags;

	if (freq == old)
		return;
	per_cpu(cur_freq, first) = freq;

	raw_spin_lock_irqsave(&transitions_lock, flags);
	t = &transitions[nr_transitions++ % NR_TRANSITIONS];
	t->counter = get_cycles();
	t->policy = first;
	t->old_freq = old;
	t->new_freq = freq;
	t->cpu = smp_processor_id();
	t->pid = task_pid_nr(current);
	t->context = context();
	raw_spin_unlock_irqrestore(&transitions_lock, flags);
}

static unsigned int test_cpufreq_get(unsigned int cpu)
{
	struct cpufreq_policy *policy = cpufreq_cpu_get_raw(cpu);

	return policy ? per_cpu(cur_freq, cpumask_first(policy->related_cpus)) : 0;
}

static int test_cpufreq_target_index(struct cpufreq_policy *policy, unsigned int index)
{
	change_freq(policy, policy->freq_table[index].frequency);
	return 0;
}

static unsigned int test_cpufreq_fast_switch(struct cpufreq_policy *policy,
					     unsigned int target_freq)
{
	unsigned int index = cpufreq_table_find_index_l(policy, target_freq, false);
	unsigned int freq = policy->freq_table[index].frequency;

	change_freq(policy, freq);
	return freq;
}

static int test_cpufreq_init(struct cpufreq_policy *policy)
{
	if (shared)
		cpumask_copy(policy->cpus, cpu_possible_mask);

	policy->freq_table = freq_table;
	policy->fast_switch_possible = fast_switch;
	policy->dvfs_possible_from_any_cpu = true;
	return 0;
}

static struct cpufreq_driver test_cpufreq_driver = {
	.name		= "test_cpufreq",
	.init		= test_cpufreq_init,
	.verify		= cpufreq_generic_frequency_table_verify,
	.target_index	= test_cpufreq_target_index,
	.fast_switch	= test_cpufreq_fast_switch,
	.get		= test_cpufreq_get,
};

static int transitions_show(struct seq_file *m, void *unused)
{
	unsigned int i, end;
	struct transition t;

	raw_spin_lock_irq(&transitions_lock);
	end = nr_transitions;
	raw_spin_unlock_irq(&transitions_lock);

	for (i = end > NR_TRANSITIONS ? end - NR_TRANSITIONS : 0; i < end; i++) {
		raw_spin_lock_irq(&transitions_lock);
		t = transitions[i % NR_TRANSITIONS];
		raw_spin_unlock_irq(&transitions_lock);

		seq_printf(m, "%u %llu %u %u %u %u %d %s\n", i, t.counter, t.policy,
			   t.old_freq, t.new_freq, t.cpu, t.pid, t.context);
	}

	return 0;
}

static int transitions_open(struct inode *inode, struct file *file)
{
	return single_open(file, transitions_show, NULL);
}

static ssize_t transitions_write(struct file *file, const char __user *buf,
				 size_t count, loff_t *ppos)
{
	raw_spin_lock_irq(&transitions_lock);
	nr_transitions = 0;
	raw_spin_unlock_irq(&transitions_lock);

	return count;
}

static const struct file_operations transitions_fops = {
	.owner		= THIS_MODULE,
	.open		= transitions_open,
	.read		= seq_read,
	.write		= transitions_write,
	.llseek		= seq_lseek,
	.release	= single_release,
};

static int __init test_cpufreq_make_table(void)
{
	unsigned int i, cpu;

	for (i = 0; i < nr_freqs; i++) {
		if (!freqs[i] || (i && freqs[i] <= freqs[i - 1]))
			return -EINVAL;
		freq_table[i].frequency = freqs[i];
	}
	freq_table[i].frequency = CPUFREQ_TABLE_END;

	for_each_possible_cpu(cpu)
		per_cpu(cur_freq, cpu) = freqs[nr_freqs - 1];

	return 0;
}

static struct dentry *debugfs_dir;

static int __init test_cpufreq_module_init(void)
{
	int ret;

	ret = test_cpufreq_make_table();
	if (ret)
		return ret;

	debugfs_dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("transitions", 0600, debugfs_dir, NULL, &transitions_fops);

	ret = cpufreq_register_driver(&test_cpufreq_driver);
	if (ret)
		debugfs_remove(debugfs_dir);

	return ret;
}
module_init(test_cpufreq_module_init);

static void __exit test_cpufreq_module_exit(void)
{
	cpufreq_unregister_driver(&test_cpufreq_driver);
	debugfs_remove(debugfs_dir);
}
module_exit(test_cpufreq_module_exit);

MODULE_DESCRIPTION("Test module: cpufreq driver for CPUs without frequencies");
MODULE_LICENSE("GPL");
