/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several of the kernel's files have a static function of this name, which shows the type of something in sysfs. */
#include <linux/device.h>

static ssize_t livepatch_type_show(struct device *device, struct device_attribute *attribute, char *buffer)
{
	return sysfs_emit(buffer, "livepatch: " KBUILD_MODNAME "\n");
}
