/* core/control_wire.h - framing of the control socket, shared by daemon/ and cli/. Pure.
 *
 * Request: "KCTL" | version 1 (u8) | 0 (u8) | argument count (le16) | payload size (le32) |
 * payload: each argument as le32 length and bytes. At most 64 KiB. Reply:   frames of the same
 * head, in which "argument count" is the kind: 0 a part of the answer (UTF-8 text or JSON, at most
 * 64 KiB), 1 the end with payload = exit status (le32) and an error sentence.
 */
#ifndef KILAT_CORE_CONTROL_WIRE_H
#define KILAT_CORE_CONTROL_WIRE_H

#include "core/buf.h"

#define CONTROL_VERSION 1
#define CONTROL_HEAD_BYTES 12
#define CONTROL_PAYLOAD_MAX (64 * KIB)
#define CONTROL_ARGUMENTS_MAX 64

enum control_reply_kind { CONTROL_REPLY_PART, CONTROL_REPLY_END };

struct control_frame {
    uint16_t word; /* argument count or reply kind */
    struct slice payload;
};

/* 1: a whole frame, `*ret_size` bytes long, borrowed from `input`; 0: more is needed; -EPROTO: not
 * ours or too big. */
int control_frame_parse(struct slice input, struct control_frame *ret_frame, size_t *ret_size);
/* Splits a request; false when lengths do not add up. */
bool control_arguments(const struct control_frame *frame,
                       struct slice arguments[CONTROL_ARGUMENTS_MAX], size_t *ret_count);
void control_write_request(struct buf *out, const struct slice *arguments, size_t count);
/* Splits `text` into as many frames as it takes. */
void control_write_part(struct buf *out, struct slice text);
void control_write_end(struct buf *out, uint32_t status, struct slice error);
/* Of a CONTROL_REPLY_END; false when malformed. */
bool control_read_end(const struct control_frame *frame, uint32_t *ret_status,
                      struct slice *ret_error);

#endif
