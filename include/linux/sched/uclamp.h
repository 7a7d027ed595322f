/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_SCHED_UCLAMP_H
#define _LINUX_SCHED_UCLAMP_H

#include <linux/compiler.h>
#include <linux/jump_label.h>
#include <linux/sched.h>

#ifdef CONFIG_UCLAMP_HINT
/* Enabled by sched_enable_uclamp_hints(), for good */
DECLARE_STATIC_KEY_FALSE(sched_uclamp_hints_used);

static __always_inline bool sched_uclamp_hints_are_used(void)
{
	return static_branch_unlikely(&sched_uclamp_hints_used);
}

/*
 * Who gave the task its hint, 0 if it has none. Stable only as far as the caller
 * keeps others from setting or clearing it.
 */
static inline u32 sched_uclamp_hint_id(const struct task_struct *p)
{
	return READ_ONCE(p->uclamp_hint.id);
}

void sched_enable_uclamp_hints(void);
void sched_set_uclamp_hint(union uclamp_hint hint);
void sched_clear_uclamp_hint(struct task_struct *p, u32 id);
#else
static __always_inline bool sched_uclamp_hints_are_used(void) { return false; }
static inline u32 sched_uclamp_hint_id(const struct task_struct *p) { return 0; }
static inline void sched_enable_uclamp_hints(void) { }
static inline void sched_set_uclamp_hint(union uclamp_hint hint) { }
static inline void sched_clear_uclamp_hint(struct task_struct *p, u32 id) { }
#endif /* CONFIG_UCLAMP_HINT */

#endif /* _LINUX_SCHED_UCLAMP_H */
