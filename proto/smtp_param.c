#include "proto/smtp_param.h"

static bool is_keyword(struct slice keyword)
{
    for (size_t i = 0; i < keyword.size; i++) {
        uint8_t octet = byte_lower(keyword.data[i]);

        if (!(octet >= 'a' && octet <= 'z') && !(octet >= '0' && octet <= '9') &&
            (octet != '-' || i == 0))
            return false;
    }
    return keyword.size > 0;
}

/* Printable, and neither "=" nor a blank; the blank has ended the value already. */
static bool is_value(struct slice value)
{
    return value.size > 0 && slice_is_printable(value) && slice_find(value, '=') == SIZE_MAX;
}

enum smtp_param_result smtp_param_next(struct slice *rest, struct smtp_param *ret_param)
{
    struct slice word;
    size_t equals;

    if (slice_trim(*rest).size == 0)
        return SMTP_PARAM_END;
    if (rest->data[0] != ' ')
        return SMTP_PARAM_BAD;
    while (rest->size > 0 && rest->data[0] == ' ')
        *rest = slice_skip(*rest, 1);
    word = slice_first(*rest, MIN(slice_find(*rest, ' '), rest->size));
    *rest = slice_skip(*rest, word.size);
    equals = slice_find(word, '=');
    *ret_param = (struct smtp_param){
        .keyword = slice_first(word, equals),
        .value = equals == SIZE_MAX ? SLICE_NONE : slice_skip(word, equals + 1),
        .has_value = equals != SIZE_MAX,
    };
    if (!is_keyword(ret_param->keyword) || (ret_param->has_value && !is_value(ret_param->value)))
        return SMTP_PARAM_BAD;
    return SMTP_PARAM_OK;
}
