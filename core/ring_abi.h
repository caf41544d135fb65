/* core/ring_abi.h - what newer kernels say and liburing 2.3's headers do not know yet.
 *
 * The numbers are the kernel's own (include/uapi/linux/io_uring.h), so a newer header may define
 * the same names: then its definitions stand. Included by core/ring* only.
 */
#ifndef KILAT_CORE_RING_ABI_H
#define KILAT_CORE_RING_ABI_H

#include <liburing.h>

/* Linux 6.6. Never to be passed to io_uring_queue_init_params() of 2.3: that writes the index
 * array, which is not there, over the head of the ring. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

#ifndef IORING_FEAT_REG_REG_RING /* Linux 6.3 */
#define IORING_FEAT_REG_REG_RING (1U << 13)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE /* Linux 6.10 */
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT /* Linux 6.12 */
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif
#ifndef IORING_FEAT_NO_IOWAIT /* Linux 6.15 */
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif

/* struct io_uring_buf_reg.flags, which 2.3 calls `pad`. An enumerator in newer headers, so it has a
 * name of ours here. Linux 6.12. */
#define RING_PBUF_INCREMENTAL 2u

#endif
