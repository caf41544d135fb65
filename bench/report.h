/* bench/report.h - results for programs (JSON) and for people (medians and paired ratios). */
#ifndef KILAT_BENCH_REPORT_H
#define KILAT_BENCH_REPORT_H

#include "core/buf.h"

/* Values that could not be had are NAN: null in JSON, left out of every median. */

/* The middle one, or the mean of the two in the middle; NAN when there is none. */
double report_median(const double *values, size_t count);
/* The median of values[i] / bases[i] over all i for which both are there: neighbours in time are compared with
 * each other, so what disturbed a whole round cancels out. */
double report_paired_ratio(const double *values, const double *bases, size_t count);

/* One flat object: report_object_begin(), fields, report_object_end(). */
void report_object_begin(struct buf *json);
void report_text(struct buf *json, const char *name, const char *value); /* NULL: null */
void report_u64(struct buf *json, const char *name, uint64_t value);
void report_number(struct buf *json, const char *name, double value); /* three decimals */
void report_bool(struct buf *json, const char *name, bool value);
void report_object_end(struct buf *json);

#endif
