// SPDX-License-Identifier: GPL-2.0
/* /dev/xtjit: requests of sockets wait here for the helper; see xtjit_dev.h. */
#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/random.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "xtjit.h"

#define MAX_READS 3		/* helpers that may die of one request */
#define OPEN_TIME (15 * HZ)	/* for a helper to come */

enum request_state {
	R_WAITING,		/* to be read */
	R_READ,			/* the helper has it */
	R_ENDED,			/* replied, or its caller is gone */
};

struct xtjit_request {
	struct list_head list;		/* while not R_ENDED */
	refcount_t refs;
	enum request_state state;
	bool owner;			/* as XTJIT_REQ_OWNER */
	bool sealed;			/* its ruleset is in force, or about to be */
	u8 reads;
	int status;
	struct xtjit_req req;
	struct net *net;
	void *payload, *reply;
	size_t reply_len;
	struct completion done;
};

static unsigned int timeout = 120;
module_param(timeout, uint, 0644);
MODULE_PARM_DESC(timeout, "seconds that a request may take");

/* Of all below, and of requests' state. */
static DEFINE_MUTEX(lock);
static LIST_HEAD(requests);
static DECLARE_WAIT_QUEUE_HEAD(readers);
static DECLARE_WAIT_QUEUE_HEAD(idle);	/* until there is no hangup */
static bool opened, hangup;
/*
 * A helper was started, or went untold: one may be about to come, or programs may be
 * left at devices, which the next one takes away.
 */
static bool due;

struct xtjit_request *xtjit_request_new(struct net *net, u16 op, u32 optname, u8 family,
					size_t len)
{
	struct xtjit_request *r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);

	if (!r)
		return NULL;
	r->payload = kvmalloc(max_t(size_t, len, 1), GFP_KERNEL_ACCOUNT);
	if (!r->payload) {
		kfree(r);
		return NULL;
	}
	refcount_set(&r->refs, 1);
	init_completion(&r->done);
	INIT_LIST_HEAD(&r->list);
	r->net = get_net(net);
	r->owner = current_user_ns() == net->user_ns;
	r->req = (struct xtjit_req){
		.magic = XTJIT_MAGIC, .version = XTJIT_VERSION, .op = op,
		.id = get_random_u64() ?: 1, .optname = optname, .family = family,
		.uid = from_kuid_munged(&init_user_ns, current_euid()),
		.gid = from_kgid_munged(&init_user_ns, current_egid()),
		.len = len,
	};
	return r;
}

void xtjit_request_put(struct xtjit_request *r)
{
	if (!refcount_dec_and_test(&r->refs))
		return;
	put_net(r->net);
	kvfree(r->payload);
	kvfree(r->reply);
	kfree(r);
}

void *xtjit_request_payload(struct xtjit_request *r)
{
	return r->payload;
}

const void *xtjit_request_reply(const struct xtjit_request *r, size_t *len)
{
	*len = r->reply_len;
	return r->reply;
}

/* The list's reference goes. */
static void request_end(struct xtjit_request *r, int status)
{
	lockdep_assert_held(&lock);
	list_del_init(&r->list);
	r->state = R_ENDED;
	r->status = status;
	complete(&r->done);
	xtjit_request_put(r);
}

/*
 * The caller gives up, unless a reply has come in between.  False: it should
 * not, for its ruleset is in force; only the @last time it may all the same.
 */
static bool request_give_up(struct xtjit_request *r, int status, bool last)
{
	bool gone = true;

	mutex_lock(&lock);
	if (r->state != R_ENDED) {
		gone = !r->sealed || status == -EINTR || last;
		if (gone)
			request_end(r, status);
	}
	mutex_unlock(&lock);
	return gone;
}

static int start_helper(void)
{
	int ret = xtjit_umh_start();

	mutex_lock(&lock);
	due |= !ret && !opened;
	mutex_unlock(&lock);
	return ret;
}

static int wait_turns(struct xtjit_request *r)
{
	unsigned long end = jiffies + (unsigned long)READ_ONCE(timeout) * HZ;
	unsigned long seen = jiffies;
	long left;

	for (;;) {
		if (READ_ONCE(opened))
			seen = jiffies;
		else if (time_after(jiffies, seen + OPEN_TIME) || start_helper())
			return -EIO;
		left = wait_for_completion_killable_timeout(&r->done, HZ / 2);
		if (left > 0)
			return 0;
		if (left < 0)
			return -EINTR;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
	}
}

int xtjit_request_wait(struct xtjit_request *r)
{
	bool last = false;
	int ret;

	mutex_lock(&lock);
	refcount_inc(&r->refs);
	list_add_tail(&r->list, &requests);
	mutex_unlock(&lock);
	wake_up_interruptible(&readers);
	while ((ret = wait_turns(r)) && !request_give_up(r, ret, last))
		last = true;
	if (ret == -ETIMEDOUT || ret == -EIO)
		pr_warn_ratelimited("%s: the helper does not %s\n", current->comm,
				    ret == -EIO ? "come" : "answer");
	return r->status;
}

/* NULL if it is not one that the helper has. Locked. */
static struct xtjit_request *request_find(u64 id)
{
	struct xtjit_request *r;

	lockdep_assert_held(&lock);
	list_for_each_entry(r, &requests, list)
		if (r->req.id == id && r->state == R_READ)
			return r;
	return NULL;
}

int xtjit_request_seal(u64 id)
{
	struct xtjit_request *r;
	int ret = 0;

	if (!id)
		return 0;
	mutex_lock(&lock);
	r = request_find(id);
	if (r)
		r->sealed = true;
	else
		ret = -ECANCELED;
	mutex_unlock(&lock);
	return ret;
}

/*
 * The helper's side
 */

bool xtjit_dev_is_open(void)
{
	return READ_ONCE(opened);
}

void xtjit_dev_hangup(void)
{
	unsigned long end = jiffies + OPEN_TIME;
	struct xtjit_request *r, *next;

	mutex_lock(&lock);
	list_for_each_entry_safe(r, next, &requests, list)
		if (!r->sealed)
			request_end(r, -EIO);
	hangup = opened || due;
	mutex_unlock(&lock);
	wake_up_interruptible(&readers);
	while (READ_ONCE(hangup) && time_before(jiffies, end)) {
		if (!xtjit_dev_is_open() && start_helper())
			break;
		if (wait_event_killable_timeout(idle, !READ_ONCE(hangup), HZ) < 0)
			break;
	}
	mutex_lock(&lock);
	if (hangup)
		pr_warn("no helper has cleared up: early programs may be left at devices\n");
	hangup = opened && hangup;
	due = false;
	mutex_unlock(&lock);
}

static int xtjit_open(struct inode *inode, struct file *file)
{
	int ret = 0;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	mutex_lock(&lock);
	if (opened) {
		ret = -EBUSY;
	} else {
		opened = true;
		due = false;
	}
	mutex_unlock(&lock);
	return ret;
}

/* What it had goes to the next one. */
static int xtjit_release(struct inode *inode, struct file *file)
{
	struct xtjit_request *r, *next;

	mutex_lock(&lock);
	list_for_each_entry_safe(r, next, &requests, list) {
		if (r->state != R_READ)
			continue;
		if (r->sealed || r->reads < MAX_READS)
			r->state = R_WAITING;
		else
			request_end(r, -EIO);
	}
	due = !hangup;
	opened = false;
	WRITE_ONCE(hangup, false);
	mutex_unlock(&lock);
	wake_up_all(&idle);
	return 0;
}

static struct xtjit_request *first_waiting(void)
{
	struct xtjit_request *r;

	lockdep_assert_held(&lock);
	list_for_each_entry(r, &requests, list)
		if (r->state == R_WAITING)
			return r;
	return NULL;
}

/* Something to read, or the end. */
static bool readable(void)
{
	bool yes;

	mutex_lock(&lock);
	yes = hangup || first_waiting();
	mutex_unlock(&lock);
	return yes;
}

/* A new fd of the current process's, for @net. */
static int netns_fd(struct net *net)
{
	return open_related_ns(&net->ns, get_net_ns);
}

static u32 of_initial_user(const struct net *net)
{
	return net->user_ns == &init_user_ns;
}

/* One request; 0: there is none. Locked. */
static ssize_t take_request(char __user *buf)
{
	struct xtjit_request *r = first_waiting();
	struct xtjit_dev_req out;

	if (!r)
		return 0;
	out.req = r->req;
	out.flags = (of_initial_user(r->net) ? XTJIT_REQ_INITIAL : 0) |
		    (r->owner ? XTJIT_REQ_OWNER : 0);
	out.netns = netns_fd(r->net);
	if (out.netns < 0)
		return out.netns;
	/* A bad address: the fd is the helper's to find, as its bug is. */
	if (copy_to_user(buf, &out, sizeof(out)))
		return -EFAULT;
	r->state = R_READ;
	r->reads++;
	return sizeof(out);
}

static ssize_t xtjit_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	ssize_t ret;

	if (len < sizeof(struct xtjit_dev_req))
		return -EINVAL;
	for (;;) {
		mutex_lock(&lock);
		ret = hangup ? 0 : take_request(buf);
		mutex_unlock(&lock);
		if (ret || hangup)
			return ret;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		ret = wait_event_interruptible(readers, readable());
		if (ret)
			return ret;
	}
}

static __poll_t xtjit_poll(struct file *file, poll_table *wait)
{
	poll_wait(file, &readers, wait);
	if (READ_ONCE(hangup))
		return EPOLLHUP | EPOLLIN | EPOLLRDNORM;
	return readable() ? EPOLLIN | EPOLLRDNORM : 0;
}

/* A reference to a request that was read, NULL if its caller is gone. */
static struct xtjit_request *request_get(u64 id)
{
	struct xtjit_request *r;

	mutex_lock(&lock);
	r = request_find(id);
	if (r)
		refcount_inc(&r->refs);
	mutex_unlock(&lock);
	return r;
}

static int ioctl_payload(void __user *arg)
{
	struct xtjit_payload p;
	struct xtjit_request *r;
	int ret = -EINVAL;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	r = request_get(p.id);
	if (!r)
		return -ECANCELED;
	if (p.len <= r->req.len)
		ret = copy_to_user(u64_to_user_ptr(p.buf), r->payload, p.len) ? -EFAULT : 0;
	xtjit_request_put(r);
	return ret;
}

static void print_note(const struct xtjit_reply *p)
{
	char *note;

	if (!p->note_len || p->note_len > XTJIT_MAX_NOTE)
		return;
	note = memdup_user_nul(u64_to_user_ptr(p->note), p->note_len);
	if (IS_ERR(note))
		return;
	pr_info_ratelimited("%s\n", note);
	kfree(note);
}

static int ioctl_reply(void __user *arg)
{
	struct xtjit_request *r;
	struct xtjit_reply p;
	void *data = NULL;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (p.status > 0 || p.status < -MAX_ERRNO || p.len > XTJIT_MAX_PAYLOAD)
		return -EINVAL;
	if (p.len) {
		data = kvmalloc(p.len, GFP_KERNEL);
		if (!data)
			return -ENOMEM;
		if (copy_from_user(data, u64_to_user_ptr(p.buf), p.len)) {
			kvfree(data);
			return -EFAULT;
		}
	}
	print_note(&p);
	mutex_lock(&lock);
	r = request_find(p.id);
	if (r) {
		r->reply = data;
		r->reply_len = p.len;
		request_end(r, p.status);
	}
	mutex_unlock(&lock);
	if (r)
		return 0;
	kvfree(data);
	return -ECANCELED;
}

static int ioctl_commit(void __user *arg)
{
	struct xtjit_commit c;
	int ret;

	if (copy_from_user(&c, arg, sizeof(c)))
		return -EFAULT;
	ret = xtjit_table_commit(&c);
	return copy_to_user(arg, &c, sizeof(c)) ? -EFAULT : ret;
}

static int ioctl_table(unsigned int cmd, void __user *arg)
{
	struct xtjit_table_id id;
	int ret;

	if (copy_from_user(&id, arg, sizeof(id)))
		return -EFAULT;
	if (cmd == XTJIT_DROP)
		return xtjit_table_drop(&id);
	ret = xtjit_table_query(&id);
	return copy_to_user(arg, &id, sizeof(id)) ? -EFAULT : ret;
}

/* A reference to it, NULL if there is no such namespace. */
static struct net *net_by_cookie(u64 cookie)
{
	struct net *net, *found = NULL;

	down_read(&net_rwsem);
	for_each_net(net)
		if (net->net_cookie == cookie)
			found = maybe_get_net(net);
	up_read(&net_rwsem);
	return found;
}

static int ioctl_netns(void __user *arg)
{
	struct xtjit_netns n;
	struct net *net;

	if (copy_from_user(&n, arg, sizeof(n)))
		return -EFAULT;
	net = net_by_cookie(n.cookie);
	if (!net)
		return -ENOENT;
	n.initial_user = of_initial_user(net);
	n.netns = netns_fd(net);
	put_net(net);
	if (n.netns < 0)
		return n.netns;
	return copy_to_user(arg, &n, sizeof(n)) ? -EFAULT : 0;
}

static long xtjit_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *p = (void __user *)arg;

	switch (cmd) {
	case XTJIT_PAYLOAD:
		return ioctl_payload(p);
	case XTJIT_REPLY:
		return ioctl_reply(p);
	case XTJIT_COMMIT:
		return ioctl_commit(p);
	case XTJIT_QUERY:
	case XTJIT_DROP:
		return ioctl_table(cmd, p);
	case XTJIT_NETNS:
		return ioctl_netns(p);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations xtjit_fops = {
	.owner = THIS_MODULE,
	.open = xtjit_open,
	.release = xtjit_release,
	.read = xtjit_read,
	.poll = xtjit_poll,
	.unlocked_ioctl = xtjit_ioctl,
};

static struct miscdevice dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "xtjit",
	.fops = &xtjit_fops,
	.mode = 0600,
};

int xtjit_dev_init(void)
{
	return misc_register(&dev);
}

/* No caller waits any more, and the device is closed. */
void xtjit_dev_exit(void)
{
	misc_deregister(&dev);
}
