/* spool.pml - one spool: appending, J records, relocation, reuse of segments, the fuzzy checkpoint, and a crash anywhere.
 *
 * A position of the D log is a segment of one record, so that reuse of a segment and loss of a record are the same step.
 * The J log holds DONE records only. A log has a staged end (what was submitted) and a durable end; a crash keeps any part
 * of what lies between them. The checkpoint is copied entry by entry while everything else goes on.
 *
 * Sizes: -DMESSAGES -DPLACES -DNOTES -DCRASHES. The seven wrong variants: -DWRONG_ACK, -DWRONG_REUSE_DONE,
 * -DWRONG_REUSE_RELOC, -DWRONG_START, -DWRONG_PUBLISH, -DWRONG_IMAGE_PLACE, -DWRONG_IMAGE_NEW. With -DOLD_CONTENT a reused
 * segment may still show its old content after a crash, which has to be harmless.
 * I<n> are the invariants of the queue, named in README.md.
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef PLACES
#define PLACES 4
#endif
#ifndef NOTES
#define NOTES 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define NOWHERE 15

/* States of an index entry. */
#define NONE 0
#define STAGED 1
#define LIVE 2
#define GONE 3

/* The D log: whose record lies where, which segments were reused, where the log ends. */
byte d_message[PLACES];
bool d_reused[PLACES];
byte d_end, d_durable;
/* The J log: DONE of which message. */
byte j_message[NOTES];
byte j_end, j_durable;
/* The index in memory: state, place, place of a relocated copy that is not durable yet. */
byte state[MESSAGES], place[MESSAGES], moving[MESSAGES];
/* What the world has seen; no part of the program. */
bool used[MESSAGES], promised[MESSAGES], finished[MESSAGES], sent[MESSAGES];
/* The published checkpoint: start in D, start in J, image. */
byte super_d, super_j;
bool super_in[MESSAGES];
byte super_place[MESSAGES];
/* The one being made. */
bool copying;
byte start_d, start_j;
bool copied[MESSAGES], image_in[MESSAGES];
byte image_place[MESSAGES];

/* I11: a segment is reused when its message is finished in the durable J log, ... */
#ifdef WRONG_REUSE_DONE
#define DEAD_BY_DONE(x) (state[x] == GONE)
#else
#define DEAD_BY_DONE(x) (state[x] == GONE && finished[x])
#endif
/* ... or when a newer copy is durable and the index points to that one. */
#ifdef WRONG_REUSE_RELOC
#define DEAD_BY_RELOC(p, x) \
	(state[x] == LIVE && ((place[x] != p && moving[x] != p) || (place[x] == p && moving[x] != NOWHERE)))
#else
#define DEAD_BY_RELOC(p, x) (state[x] == LIVE && place[x] != p && moving[x] != p)
#endif
/* I13: a checkpoint starts at the next position to be given out, not at the durable end. */
#ifdef WRONG_START
#define START_D d_durable
#else
#define START_D d_end
#endif
/* I14: the image has the newest place, also one that is only staged, if it lies below the start, ... */
#ifdef WRONG_IMAGE_PLACE
#define IMAGE_PLACE(x) place[x]
#else
#define IMAGE_PLACE(x) ((moving[x] != NOWHERE && moving[x] < start_d) -> moving[x] : place[x])
#endif
/* ... and no entry at or above the start: those are for the scan. */
#ifdef WRONG_IMAGE_NEW
#define IMAGE_HOLDS(p) 1
#else
#define IMAGE_HOLDS(p) (p < start_d)
#endif
/* I15: published only when everything below the start is durable. */
#ifdef WRONG_PUBLISH
#define MAY_PUBLISH 1
#else
#define MAY_PUBLISH (d_durable >= start_d)
#endif
/* I2: 250 only after the completion of the write. */
#ifdef WRONG_ACK
#define ACK_WHEN_STAGED promised[m] = 1
#else
#define ACK_WHEN_STAGED skip
#endif

bool found_in[MESSAGES];
byte found_place[MESSAGES];
byte i, k, m, crashes;

inline flush_d()
{
	d_durable = d_end;
	for (i : 0 .. MESSAGES - 1) {
		if
		:: state[i] == STAGED && place[i] < d_durable -> state[i] = LIVE; promised[i] = 1
		:: else
		fi;
		if
		:: moving[i] != NOWHERE && moving[i] < d_durable -> place[i] = moving[i]; moving[i] = NOWHERE
		:: else
		fi
	}
}

inline flush_j()
{
	for (i : j_durable .. NOTES - 1) {
		if
		:: i < j_end -> finished[j_message[i]] = 1
		:: else
		fi
	}
	j_durable = j_end
}

/* A record of D is scanned unless its segment was reused; then it may show its old content or not. */
inline scan(p)
{
	if
	:: p >= super_d && p < d_end && !d_reused[p] -> found_in[d_message[p]] = 1; found_place[d_message[p]] = p
#ifdef OLD_CONTENT
	:: p >= super_d && p < d_end && d_reused[p] -> found_in[d_message[p]] = 1; found_place[d_message[p]] = p
#endif
	:: !(p >= super_d && p < d_end && !d_reused[p])
	fi
}

/* I17: the image, then D in order, then J over it. */
inline recover()
{
	for (i : 0 .. MESSAGES - 1) {
		found_in[i] = super_in[i];
		found_place[i] = super_place[i]
	}
	for (k : 0 .. PLACES - 1) {
		scan(k)
	}
	for (k : 0 .. NOTES - 1) {
		if
		:: k >= super_j && k < j_end -> found_in[j_message[k]] = 0
		:: else
		fi
	}
	for (i : 0 .. MESSAGES - 1) {
		/* I1: what was promised and not sent is found. */
		assert(!(promised[i] && !sent[i]) || found_in[i]);
		/* I25: what is found can be read. */
		assert(!found_in[i] ||
		       (found_place[i] < d_end && !d_reused[found_place[i]] && d_message[found_place[i]] == i));
		/* I9: what was finished in the durable J log stays finished. */
		assert(!finished[i] || !found_in[i]);
		state[i] = (found_in[i] -> LIVE : (used[i] -> GONE : NONE));
		place[i] = found_place[i];
		moving[i] = NOWHERE;
		if
		:: state[i] == GONE && !promised[i] && !sent[i] -> used[i] = 0; state[i] = NONE
		:: else
		fi;
		if
		:: state[i] == LIVE -> sent[i] = 0 /* I10: it is sent a second time */
		:: else
		fi;
		copied[i] = 0;
		image_in[i] = 0;
		image_place[i] = 0;
		found_in[i] = 0;
		found_place[i] = 0
	}
	d_durable = d_end;
	j_durable = j_end;
	for (k : 0 .. NOTES - 1) {
		if
		:: k < j_end -> finished[j_message[k]] = 1
		:: else
		fi
	}
	copying = 0;
	start_d = 0;
	start_j = 0;
	k = 0;
	i = 0
}

active proctype spool()
{
	atomic {
		for (i : 0 .. MESSAGES - 1) {
			moving[i] = NOWHERE
		}
		i = 0
	}
end:	do
	:: atomic { /* something happens to one message */
		m = 0;
		do
		:: m < MESSAGES - 1 -> m++
		:: break
		od;
		if
		:: state[m] == NONE && !used[m] && d_end < PLACES -> /* it is accepted */
			d_message[d_end] = m; place[m] = d_end; state[m] = STAGED; used[m] = 1; d_end++;
			ACK_WHEN_STAGED
		:: state[m] == LIVE && j_end < NOTES -> /* I7: delivered once it is durable; DONE is staged */
			sent[m] = 1; j_message[j_end] = m; j_end++; state[m] = GONE; moving[m] = NOWHERE
		:: state[m] == LIVE && moving[m] == NOWHERE && d_end < PLACES -> /* it is relocated */
			d_message[d_end] = m; moving[m] = d_end; d_end++
		:: copying && !copied[m] -> /* its entry goes into the image */
			copied[m] = 1; image_place[m] = IMAGE_PLACE(m);
			image_in[m] = ((state[m] == STAGED || state[m] == LIVE) && IMAGE_HOLDS(image_place[m]))
		:: else
		fi;
		m = 0
	   }
	:: atomic { d_end > d_durable -> flush_d(); i = 0 }
	:: atomic { j_end > j_durable -> flush_j(); i = 0 }
	:: atomic { /* a segment is reused */
		k = 0;
		do
		:: k < PLACES - 1 -> k++
		:: break
		od;
		if
		:: k < d_durable && !d_reused[k] &&
		   (DEAD_BY_DONE(d_message[k]) || DEAD_BY_RELOC(k, d_message[k])) -> d_reused[k] = 1
		:: else
		fi;
		k = 0
	   }
	:: atomic { /* a checkpoint begins */
		!copying -> copying = 1; start_d = START_D; start_j = j_durable;
		for (i : 0 .. MESSAGES - 1) {
			copied[i] = 0
		}
		i = 0
	   }
	:: atomic { /* it is published */
		copying && copied[0] && copied[MESSAGES - 1] && MAY_PUBLISH ->
		super_d = start_d; super_j = start_j;
		for (i : 0 .. MESSAGES - 1) {
			super_in[i] = image_in[i]; super_place[i] = image_place[i];
			copied[i] = 0; image_in[i] = 0; image_place[i] = 0
		}
		copying = 0; start_d = 0; start_j = 0; i = 0
	   }
	:: atomic { /* a crash: of what is staged and not durable, any first part survives */
		crashes < CRASHES -> crashes++;
		k = d_durable;
		do
		:: k < d_end -> k++
		:: break
		od;
		d_end = k; k = j_durable;
		do
		:: k < j_end -> k++
		:: break
		od;
		j_end = k;
		recover()
	   }
	od
}
