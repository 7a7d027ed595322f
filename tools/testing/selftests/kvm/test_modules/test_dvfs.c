// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test module: CPUs that are slower at a lower frequency
 *
 * A cpufreq driver with fast switch for machines whose CPUs have no frequencies of their
 * own, such as emulated ones, with the operating points of real ones. Unlike with
 * test_cpufreq work takes longer at a lower frequency, and energy is counted.
 *
 * A CPU that works at a frequency f has a debt for it: (fmax - f) / f of the time. When the
 * debt has grown to quantum_ns an interrupt pays it by standing still. That is the time of
 * the task which is interrupted, as on a slow CPU, as long as time in interrupts is not told
 * from it (no IRQ_TIME_ACCOUNTING, PARAVIRT_TIME_ACCOUNTING). What the interrupt itself takes,
 * the way there and back (overhead_ns, guest_overhead_ns), is part of the payment. A CPU of
 * less capacity than the biggest is slower in the same way, also at its highest frequency.
 *
 * /sys/kernel/debug/test_dvfs/stats has a line of these for each CPU and operating point:
 *
 *	CPU, kHz, uW, ns	the CPU's frequency and its power then, for how long it was not
 *				idle there,
 *	nJ			and what that took
 *
 * Writing to the file makes all times 0.
 *
 * CPUs stay online while the module is loaded. The scheduler's domains remain as they are:
 * capacities count where it is asked for a frequency, not in its search for a CPU. Modules
 * with another highest frequency find a wrong frequency invariance after this one, as the
 * architecture takes that into capacity_freq_ref once per boot; this one sets it right.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpufreq.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/topology.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/topology.h>
#include <trace/events/power.h>

#include <asm/arch_gicv3.h>
#include <asm/arch_timer.h>
#include <asm/sysreg.h>
#include <asm/virt.h>

#define MAX_OPPS	8
#define MAX_CPUS	8

/* Of a ratio, and of a debt in ticks of the counter */
#define SHIFT		16
#define ONE		BIT(SHIFT)

struct dvfs_table {
	const char *name;
	unsigned int coefficient;	/* dynamic-power-coefficient: uW/MHz/V^2 */
	unsigned int dmips;		/* capacity-dmips-mhz */
	unsigned int latency_ns;	/* clock-latency-ns */
	struct {
		unsigned int khz;
		unsigned int uv;
	} opps[MAX_OPPS];
};

/* As the kernel's device trees have them, arch/arm64/boot/dts/ */
static const struct dvfs_table tables[] = {
	{
		.name = "kirin960-a53",	/* hisilicon/hi3660.dtsi */
		.coefficient = 110,
		.dmips = 592,
		.latency_ns = 300000,
		.opps = {
			{ 533000, 700000 },
			{ 999000, 800000 },
			{ 1402000, 900000 },
			{ 1709000, 1000000 },
			{ 1844000, 1100000 },
		},
	},
	{
		.name = "kirin960-a73",	/* hisilicon/hi3660.dtsi */
		.coefficient = 550,
		.dmips = 1024,
		.latency_ns = 300000,
		.opps = {
			{ 903000, 700000 },
			{ 1421000, 800000 },
			{ 1805000, 900000 },
			{ 2112000, 1000000 },
			{ 2362000, 1100000 },
		},
	},
	{
		.name = "rk3588-a55",	/* rockchip/rk3588-base.dtsi, rk3588-opp.dtsi */
		.coefficient = 228,
		.dmips = 530,
		.latency_ns = 40000,
		.opps = {
			{ 1008000, 675000 },
			{ 1200000, 712500 },
			{ 1416000, 762500 },
			{ 1608000, 850000 },
			{ 1800000, 950000 },
		},
	},
	{
		.name = "rk3588-a76",	/* rockchip/rk3588-base.dtsi, rk3588-opp.dtsi */
		.coefficient = 416,
		.dmips = 1024,
		.latency_ns = 40000,
		.opps = {
			{ 1200000, 675000 },
			{ 1416000, 725000 },
			{ 1608000, 762500 },
			{ 1800000, 850000 },
			{ 2016000, 925000 },
			{ 2208000, 987500 },
			{ 2400000, 1000000 },
		},
	},
};

static char *table[MAX_CPUS] = { "kirin960-a53" };
static unsigned int nr_table = 1;
module_param_array(table, charp, &nr_table, 0444);
MODULE_PARM_DESC(table, "Operating points of CPU 0, 1, ..., the last also of all others: kirin960-a53, kirin960-a73, rk3588-a55, rk3588-a76 (default: kirin960-a53)");

static bool shared;
module_param(shared, bool, 0444);
MODULE_PARM_DESC(shared, "CPUs of the same table share one policy (default: a policy for each CPU)");

/* A larger one is paid after a short activity rather than in it. */
static unsigned int quantum_ns = 25000;
module_param(quantum_ns, uint, 0444);
MODULE_PARM_DESC(quantum_ns, "Debt that is paid at a time (default: 25000)");

static int overhead_ns = -1;
module_param(overhead_ns, int, 0444);
MODULE_PARM_DESC(overhead_ns, "From what an interrupt interrupts into its handler and back (default: as counted)");

static int guest_overhead_ns = -1;
module_param(guest_overhead_ns, int, 0444);
MODULE_PARM_DESC(guest_overhead_ns, "The same if that is a guest (default: as counted)");

static bool spin;
module_param(spin, bool, 0444);
MODULE_PARM_DESC(spin, "Stand still in a loop rather than by WFI (default: N)");

static struct cpufreq_frequency_table freq_tables[ARRAY_SIZE(tables)][MAX_OPPS + 1];
static unsigned int ns_per_tick;

/* Interrupt number of the timer that the kernel has its ticks from, and which one it is */
static unsigned int timer_irq;
static bool timer_is_virtual;

enum dvfs_state {
	DVFS_IDLE,
	DVFS_WORK,
	DVFS_PAY,
};

struct dvfs_cpu {
	const struct dvfs_table *table;
	unsigned int nr_opps;
	unsigned long old_scale;	/* the capacity without this module */
	u32 ratio[MAX_OPPS];		/* debt for a tick of work */
	struct hrtimer timer;
	call_single_data_t kick;

	raw_spinlock_t lock;		/* of all below */
	enum dvfs_state state;
	unsigned int index;		/* the operating point */
	u64 since;			/* ticks, up to which all is accounted */
	s64 debt;
	u64 busy[MAX_OPPS];		/* ticks */
};

static DEFINE_PER_CPU(struct dvfs_cpu, dvfs_cpus);

static u64 ticks(void)
{
	isb();
	return read_sysreg(cntpct_el0);
}

/* Ticks up to @t, in the present state; under the lock */
static void account(struct dvfs_cpu *c, u64 t)
{
	u64 n = t > c->since ? t - c->since : 0;

	if (c->state != DVFS_IDLE)
		c->busy[c->index] += n;
	if (c->state == DVFS_WORK)
		c->debt += n * c->ratio[c->index];
	else if (c->state == DVFS_PAY)
		c->debt -= n << SHIFT;
	c->since = t;
}

/* Work until there is a quantum of debt, in ns; 0: there will never be. Under the lock */
static u64 work_left(struct dvfs_cpu *c)
{
	s64 left = ((s64)(quantum_ns / ns_per_tick) << SHIFT) - c->debt;
	u32 ratio = c->ratio[c->index];

	if (!ratio)
		return 0;
	return max(div_u64(max(left, 0), ratio) * ns_per_tick, 1);
}

/* On this CPU, under the lock; its timer fires once the work is done, on the way into it. */
static void arm(struct dvfs_cpu *c)
{
	u64 ns = c->state == DVFS_IDLE ? 0 : work_left(c);

	if (ns)
		hrtimer_start(&c->timer, ns_to_ktime(ns + overhead_ns / 2),
			      HRTIMER_MODE_REL_PINNED_HARD);
	else
		hrtimer_try_to_cancel(&c->timer);
}

/* Since @begin this CPU has been busy with this module: if there is debt, to be paid with that. */
static void pay_with(struct dvfs_cpu *c, u64 begin)
{
	enum dvfs_state state = c->state;

	if (c->ratio[c->index])
		c->state = DVFS_PAY;
	account(c, ticks());
	c->state = state;
}

/*
 * The interrupt in which we are has a lower priority by now, but is active: a WFI would not
 * end with it. So it is deactivated here. All is programmed anew when we are back.
 */
static void wait_for_timer(u64 end)
{
	gic_write_dir(timer_irq);
	if (timer_is_virtual) {
		write_sysreg(end, cntv_cval_el0);
		write_sysreg(ARCH_TIMER_CTRL_ENABLE, cntv_ctl_el0);
	} else {
		write_sysreg(end, cntp_cval_el0);
		write_sysreg(ARCH_TIMER_CTRL_ENABLE, cntp_ctl_el0);
	}
	while (ticks() < end) {
		dsb(sy);
		wfi();
	}
	if (timer_is_virtual)
		write_sysreg(ARCH_TIMER_CTRL_ENABLE | ARCH_TIMER_CTRL_IT_MASK, cntv_ctl_el0);
	else
		write_sysreg(ARCH_TIMER_CTRL_ENABLE | ARCH_TIMER_CTRL_IT_MASK, cntp_ctl_el0);
	isb();
}

static void stand_still(u64 end)
{
	if (!spin)
		wait_for_timer(end);
	while (ticks() < end)
		cpu_relax();
}

static enum hrtimer_restart dvfs_timer(struct hrtimer *timer)
{
	struct dvfs_cpu *c = container_of(timer, struct dvfs_cpu, timer);
	unsigned int over = current->flags & PF_VCPU ? guest_overhead_ns : overhead_ns;
	u64 t = ticks(), left;
	s64 debt;

	raw_spin_lock(&c->lock);
	account(c, t);
	if (c->state == DVFS_IDLE || !c->ratio[c->index]) {
		raw_spin_unlock(&c->lock);
		return HRTIMER_NORESTART;
	}
	/* The way in was, the way out will be counted as work. */
	c->debt -= (u64)(over / ns_per_tick) * (c->ratio[c->index] + ONE);
	debt = c->debt >> SHIFT;
	c->state = DVFS_PAY;
	raw_spin_unlock(&c->lock);

	/* Meanwhile other CPUs may change the frequency, which changes no debt. */
	if (debt > 0)
		stand_still(t + debt);

	raw_spin_lock(&c->lock);
	account(c, ticks());
	c->state = DVFS_WORK;
	left = work_left(c);
	raw_spin_unlock(&c->lock);
	if (!left)
		return HRTIMER_NORESTART;

	hrtimer_set_expires(timer, ktime_add_ns(hrtimer_cb_get_time(timer), left + over / 2));
	return HRTIMER_RESTART;
}

static void probe_cpu_idle(void *data, unsigned int state, unsigned int cpu)
{
	struct dvfs_cpu *c = this_cpu_ptr(&dvfs_cpus);
	unsigned long flags;
	u64 t = ticks();

	raw_spin_lock_irqsave(&c->lock, flags);
	account(c, t);
	c->state = state == (u32)PWR_EVENT_EXIT ? DVFS_WORK : DVFS_IDLE;
	arm(c);
	pay_with(c, t);
	raw_spin_unlock_irqrestore(&c->lock, flags);
}

/* Another CPU has changed the frequency of this one. */
static void dvfs_kick(void *unused)
{
	struct dvfs_cpu *c = this_cpu_ptr(&dvfs_cpus);

	raw_spin_lock(&c->lock);
	account(c, ticks());
	arm(c);
	raw_spin_unlock(&c->lock);
}

/* Called with the rq lock of some CPU held (fast switch) or from a task. */
static void change_freq(struct cpufreq_policy *policy, unsigned int index)
{
	struct dvfs_cpu *c;
	unsigned long flags;
	unsigned int cpu;
	u64 t;

	local_irq_save(flags);
	for_each_cpu(cpu, policy->cpus) {
		c = per_cpu_ptr(&dvfs_cpus, cpu);
		raw_spin_lock(&c->lock);
		t = ticks();
		if (c->index != index) {
			account(c, t);
			c->index = index;
			if (cpu == smp_processor_id()) {
				arm(c);
				pay_with(c, t);
			} else if (c->state != DVFS_IDLE) {
				/* If one is under way already, it will do. */
				smp_call_function_single_async(cpu, &c->kick);
			}
		}
		raw_spin_unlock(&c->lock);
	}
	local_irq_restore(flags);
}

static unsigned int dvfs_get(unsigned int cpu)
{
	struct dvfs_cpu *c = per_cpu_ptr(&dvfs_cpus, cpu);

	return c->table->opps[READ_ONCE(c->index)].khz;
}

static int dvfs_target_index(struct cpufreq_policy *policy, unsigned int index)
{
	change_freq(policy, index);
	return 0;
}

static unsigned int dvfs_fast_switch(struct cpufreq_policy *policy, unsigned int target_freq)
{
	unsigned int index = cpufreq_table_find_index_l(policy, target_freq, false);

	change_freq(policy, index);
	return policy->freq_table[index].frequency;
}

static int dvfs_init(struct cpufreq_policy *policy)
{
	const struct dvfs_table *t = per_cpu(dvfs_cpus, policy->cpu).table;
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		if (shared && per_cpu(dvfs_cpus, cpu).table == t)
			cpumask_set_cpu(cpu, policy->cpus);
	}
	policy->freq_table = freq_tables[t - tables];
	policy->fast_switch_possible = true;
	policy->dvfs_possible_from_any_cpu = true;
	policy->cpuinfo.transition_latency = t->latency_ns;
	return 0;
}

static struct cpufreq_driver dvfs_driver = {
	.name		= "test_dvfs",
	.init		= dvfs_init,
	.verify		= cpufreq_generic_frequency_table_verify,
	.target_index	= dvfs_target_index,
	.fast_switch	= dvfs_fast_switch,
	.get		= dvfs_get,
};

/* coefficient * f * V^2 */
static u64 power_uw(const struct dvfs_table *t, unsigned int index)
{
	/* in 100 uV */
	u64 v = t->opps[index].uv / 100, mhz = t->opps[index].khz / 1000;

	return div_u64(t->coefficient * mhz * v * v, 100000000);
}

static int stats_show(struct seq_file *m, void *unused)
{
	u64 busy[MAX_OPPS], ns, uw;
	struct dvfs_cpu *c;
	unsigned int cpu, i;

	for_each_online_cpu(cpu) {
		c = per_cpu_ptr(&dvfs_cpus, cpu);
		raw_spin_lock_irq(&c->lock);
		account(c, ticks());
		memcpy(busy, c->busy, sizeof(busy));
		raw_spin_unlock_irq(&c->lock);

		for (i = 0; i < c->nr_opps; i++) {
			ns = busy[i] * ns_per_tick;
			uw = power_uw(c->table, i);
			seq_printf(m, "%u %u %llu %llu %llu\n", cpu, c->table->opps[i].khz, uw, ns,
				   div_u64(uw * div_u64(ns, 1000), 1000));
		}
	}
	return 0;
}

static int stats_open(struct inode *inode, struct file *file)
{
	return single_open(file, stats_show, NULL);
}

static ssize_t stats_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	struct dvfs_cpu *c;
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(&dvfs_cpus, cpu);
		raw_spin_lock_irq(&c->lock);
		account(c, ticks());
		memset(c->busy, 0, sizeof(c->busy));
		raw_spin_unlock_irq(&c->lock);
	}
	return count;
}

static const struct file_operations stats_fops = {
	.owner		= THIS_MODULE,
	.open		= stats_open,
	.read		= seq_read,
	.write		= stats_write,
	.llseek		= seq_lseek,
	.release	= single_release,
};

static const struct dvfs_table *find_table(unsigned int cpu)
{
	const char *name = table[min(cpu, nr_table - 1)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		if (!strcmp(tables[i].name, name))
			return &tables[i];
	}
	pr_err("no table %s\n", name);
	return NULL;
}

static unsigned int highest(const struct dvfs_table *t)
{
	unsigned int i = 0;

	while (i + 1 < MAX_OPPS && t->opps[i + 1].khz)
		i++;
	return i;
}

static u64 strength(const struct dvfs_table *t)
{
	return (u64)t->dmips * t->opps[highest(t)].khz;
}

/* From here on frequencies are made, but the lock is not yet needed. */
static int __init init_cpus(void)
{
	u64 strongest = 0, capacity;
	struct dvfs_cpu *c;
	unsigned int cpu, i;

	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(&dvfs_cpus, cpu);
		c->table = find_table(cpu);
		if (!c->table)
			return -EINVAL;
		strongest = max(strongest, strength(c->table));
	}

	for_each_possible_cpu(cpu) {
		const struct dvfs_table *t;

		c = per_cpu_ptr(&dvfs_cpus, cpu);
		t = c->table;
		c->nr_opps = highest(t) + 1;
		for (i = 0; i < c->nr_opps; i++) {
			c->ratio[i] = div64_u64(strongest << SHIFT,
						(u64)t->dmips * t->opps[i].khz) - ONE;
			freq_tables[t - tables][i].frequency = t->opps[i].khz;
		}
		freq_tables[t - tables][i].frequency = CPUFREQ_TABLE_END;

		raw_spin_lock_init(&c->lock);
		hrtimer_setup(&c->timer, dvfs_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
		INIT_CSD(&c->kick, dvfs_kick, NULL);
		c->state = DVFS_WORK;
		c->index = c->nr_opps - 1;
		c->since = ticks();

		capacity = div64_u64(strength(t) << SCHED_CAPACITY_SHIFT, strongest);
		c->old_scale = per_cpu(cpu_scale, cpu);
		per_cpu(cpu_scale, cpu) = capacity;
		per_cpu(capacity_freq_ref, cpu) = t->opps[c->index].khz;
		per_cpu(arch_freq_scale, cpu) = SCHED_CAPACITY_SCALE;
	}
	return 0;
}

/* On QEMU's virt machine the timers' interrupts are those that Arm's BSA recommends. */
static void __init find_timer(void)
{
	bool vhe = is_kernel_in_hyp_mode();

	timer_is_virtual = vhe && (read_sysreg(cntv_ctl_el0) & ARCH_TIMER_CTRL_ENABLE);
	if (!vhe)
		timer_irq = 30;
	else
		timer_irq = timer_is_virtual ? 28 : 26;
	ns_per_tick = NSEC_PER_SEC / arch_timer_get_cntfrq();

	/* As it was counted by what virt_cpufreq_dvfs_test finds too long or too short */
	if (overhead_ns < 0)
		overhead_ns = 1430;
	if (guest_overhead_ns < 0) {
		if (vhe)
			guest_overhead_ns = 2480;
		else
			guest_overhead_ns = is_protected_kvm_enabled() ? 3230 : 3090;
	}
}

static struct dentry *debugfs_dir;

static void undo(void)
{
	struct dvfs_cpu *c;
	unsigned int cpu;

	tracepoint_synchronize_unregister();
	kick_all_cpus_sync();	/* behind the kicks that are under way */
	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(&dvfs_cpus, cpu);
		hrtimer_cancel(&c->timer);
		per_cpu(cpu_scale, cpu) = c->old_scale;
		per_cpu(arch_freq_scale, cpu) = SCHED_CAPACITY_SCALE;
	}
}

static int __init dvfs_module_init(void)
{
	int ret;

	find_timer();
	ret = init_cpus();
	if (ret)
		return ret;

	ret = register_trace_cpu_idle(probe_cpu_idle, NULL);
	if (ret)
		goto err;
	debugfs_dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("stats", 0600, debugfs_dir, NULL, &stats_fops);
	ret = cpufreq_register_driver(&dvfs_driver);
	if (ret)
		goto err_trace;

	pr_info("CPUs stand still %s\n", spin ? "in a loop, in which others wait" : "by WFI");
	return 0;

err_trace:
	debugfs_remove(debugfs_dir);
	unregister_trace_cpu_idle(probe_cpu_idle, NULL);
err:
	undo();
	return ret;
}
module_init(dvfs_module_init);

static void __exit dvfs_module_exit(void)
{
	cpufreq_unregister_driver(&dvfs_driver);
	debugfs_remove(debugfs_dir);
	unregister_trace_cpu_idle(probe_cpu_idle, NULL);
	undo();
}
module_exit(dvfs_module_exit);

MODULE_DESCRIPTION("Test module: cpufreq driver that slows CPUs down");
MODULE_LICENSE("GPL");
