#include "bench/report.h"

#include <math.h>
#include <stdlib.h>

#include "core/assert.h"

#define VALUES_MAX 10000u

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double report_median(const double *values, size_t count)
{
    double sorted[VALUES_MAX];
    size_t found = 0;

    ASSERT(count <= VALUES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            sorted[found++] = values[i];
    if (found == 0)
        return NAN;
    qsort(sorted, found, sizeof(sorted[0]), compare_doubles);
    return (sorted[(found - 1) / 2] + sorted[found / 2]) / 2;
}

double report_paired_ratio(const double *values, const double *bases, size_t count)
{
    double ratios[VALUES_MAX];

    ASSERT(count <= VALUES_MAX);
    for (size_t i = 0; i < count; i++) /* a NAN on either side makes one, and so does 0 / 0 */
        ratios[i] = bases[i] == 0 ? NAN : values[i] / bases[i];
    return report_median(ratios, count);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void report_object_begin(struct buf *json)
{
    buf_append_byte(json, '{');
}

static void put_quoted(struct buf *json, const char *text)
{
    buf_append_byte(json, '"');
    for (const char *at = text; *at != 0; at++) {
        uint8_t c = (uint8_t)*at;

        if (c == '"' || c == '\\')
            buf_printf(json, "\\%c", c);
        else if (c < 0x20)
            buf_printf(json, "\\u%04x", c);
        else
            buf_append_byte(json, c);
    }
    buf_append_byte(json, '"');
}

static void put_name(struct buf *json, const char *name)
{
    if (json->size > 0 && json->data[json->size - 1] != '{')
        buf_append_cstr(json, ", ");
    put_quoted(json, name);
    buf_append_cstr(json, ": ");
}

void report_text(struct buf *json, const char *name, const char *value)
{
    put_name(json, name);
    if (value == NULL)
        buf_append_cstr(json, "null");
    else
        put_quoted(json, value);
}

void report_u64(struct buf *json, const char *name, uint64_t value)
{
    put_name(json, name);
    buf_append_u64(json, value);
}

void report_number(struct buf *json, const char *name, double value)
{
    put_name(json, name);
    if (isnan(value) || isinf(value))
        buf_append_cstr(json, "null");
    else
        buf_printf(json, "%.3f", value);
}

void report_bool(struct buf *json, const char *name, bool value)
{
    put_name(json, name);
    buf_append_cstr(json, value ? "true" : "false");
}

void report_object_end(struct buf *json)
{
    buf_append_byte(json, '}');
}
