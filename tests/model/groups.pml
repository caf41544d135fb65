/* groups.pml - one stream of groups with two in flight, torn writes, failed writes, chunks, and a damaged sector.
 *
 * A place is where one group lies. Places are never used twice in the right program; a segment (an incarnation) is a run of
 * places. A group in flight may complete in any order, fail, or be there whole, torn or not at all after a crash. Each
 * group carries `known`: the highest place its writer knew to be durable together with all before it. Message 0 is big:
 * CHUNKS chunks, then COMMIT, which lists where they lie. The others are one group each.
 *
 * Recovery presents every whole group, and calls a hole damage only if a whole group of the same segment knew it to be
 * durable; any other hole is a torn tail. With -DCUT it presents nothing behind a torn tail; that is right as long as
 * nothing is damaged (-DDAMAGES=0), and loses mail when something is.
 *
 * Sizes: -DMESSAGES -DCHUNKS -DPLACES -DCRASHES -DFAILURES -DDAMAGES. Wrong variants: -DWRONG_ACK (before the write),
 * -DWRONG_ORDER (250 without those before), -DWRONG_KNOWN (the highest completed place, holes below it or not),
 * -DWRONG_TRUNCATE (always a torn tail), -DWRONG_SEGMENT (a later segment makes a hole damage), -DWRONG_APPEND (recovery
 * goes on in the same segment), -DWRONG_COMMIT (before the chunks are durable), -DWRONG_REWRITE (only the group that
 * failed, not those behind it), -DWRONG_CHUNK (COMMIT is believed without its chunks).
 * I<n> are the invariants of the queue, named in README.md.
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef CHUNKS
#define CHUNKS 1
#endif
#ifndef PLACES
#define PLACES 6
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef DAMAGES
#define DAMAGES 1
#endif
#define NOWHERE 15
#define IN_FLIGHT_MAX 2
#define COMMIT CHUNKS              /* parts of message 0 are its chunks, then COMMIT */
#define PARTS (CHUNKS + MESSAGES)  /* the others are one part each: COMMIT + m */

/* What is known of a place while the writer lives. */
#define FREE 0
#define FLIGHT 1
#define DONE 2   /* its write completed with the full length and without error */
#define FAILED 3 /* it did not, or it lies behind one that did not: written once more elsewhere */

/* The disk. */
byte part[PLACES];    /* what the group holds */
byte known[PLACES];   /* what its writer knew to be durable, plus one; 0: nothing */
byte segment[PLACES]; /* its incarnation, from 1; 0: never written */
bool whole[PLACES], hole[PLACES];
byte listed[CHUNKS * PLACES]; /* of a COMMIT: where its chunks lie */
bool needed[PLACES];          /* recovery has presented what lies here */

/* The writer. */
byte progress[PLACES];
byte next, current = 1, durable; /* next place, segment, durable end: all below it are DONE or were written elsewhere */
byte lies[PARTS];                /* where a part was written last */
bool wanted[PARTS], complete[PARTS]; /* to be written (once more); its completion was seen */
bool begun[MESSAGES];

/* What the world has seen. */
bool promised[MESSAGES], gone[MESSAGES]; /* gone: a recovery did not present it, nobody waits for it */
byte crashes, failures, damages;
bool damaged[PLACES];
byte i, k, p, q, in_flight;
bool ok, covered;

#ifdef WRONG_ACK
#define ACK_AT_SUBMIT ack(part[next])
#else
#define ACK_AT_SUBMIT skip
#endif

#ifdef WRONG_SEGMENT
#define SAME_SEGMENT(p, q) 1
#else
#define SAME_SEGMENT(p, q) (segment[q] == segment[p])
#endif

inline ack(x)
{
	if
	:: x >= COMMIT -> promised[x - COMMIT] = 1
	:: else
	fi
}

/* The next group, if a place is left and fewer than two are in flight. */
inline submit(x)
{
	/* I4: no place with anything that is needed, or may be, is written again. */
	assert(progress[next] == FREE && !needed[next]);
	part[next] = x;
	known[next] = durable;
#ifdef WRONG_KNOWN
	for (i : 0 .. PLACES - 1) {
		if
		:: progress[i] == DONE && segment[i] == current && i + 1 > known[next] -> known[next] = i + 1
		:: else
		fi
	}
#endif
	segment[next] = current;
	whole[next] = 0;
	hole[next] = 0;
	progress[next] = FLIGHT;
	if
	:: x == COMMIT ->
		for (i : 0 .. CHUNKS - 1) {
			listed[next * CHUNKS + i] = lies[i]
		}
	:: else
	fi;
	lies[x] = next;
	complete[x] = 0;
	wanted[x] = 0;
	ACK_AT_SUBMIT;
	next++;
	in_flight++;
	i = 0
}

/* I3: 250s go out in the order of the places, for the groups up to the first that is not complete. */
inline advance()
{
	do
	:: durable < next && progress[durable] == DONE -> ack(part[durable]); durable++
	:: durable < next && progress[durable] == FAILED -> durable++
	:: else -> break
	od
}

/* A write failed at `p`. Its segment is closed where its last durable group ends; what lies behind is written once more
 * into a new one, when nothing is in flight any more. */
inline close_segment()
{
	for (i : durable .. PLACES - 1) {
		if
#ifdef WRONG_REWRITE
		:: i < next && progress[i] == FAILED && lies[part[i]] == i -> wanted[part[i]] = 1
#else
		:: i < next && progress[i] != FREE && lies[part[i]] == i ->
			progress[i] = FAILED; complete[part[i]] = 0; wanted[part[i]] = 1
#endif
		:: else
		fi
	}
	i = 0;
	current++;
	advance()
}

/* Whether all chunks that the COMMIT at `p` lists verify. */
inline check_chunks()
{
	ok = 1;
#ifndef WRONG_CHUNK
	for (i : 0 .. CHUNKS - 1) {
		if
		:: listed[p * CHUNKS + i] == NOWHERE -> ok = 0
		:: else ->
			if
			:: !whole[listed[p * CHUNKS + i]] || part[listed[p * CHUNKS + i]] != i -> ok = 0
			:: else
			fi
		fi
	}
	i = 0
#endif
}

/* I25: what is presented can be read, all of it. */
inline check_readable()
{
	if
	:: part[p] == COMMIT ->
		for (i : 0 .. CHUNKS - 1) {
			assert(listed[p * CHUNKS + i] != NOWHERE);
			assert(whole[listed[p * CHUNKS + i]] && part[listed[p * CHUNKS + i]] == i)
		}
		i = 0
	:: else
	fi
}

/* I18: is the hole at `p` damage of what was acknowledged? */
inline judge_hole()
{
	covered = 0;
	for (q : 0 .. PLACES - 1) {
		if
		:: q > p && q < next && whole[q] && SAME_SEGMENT(p, q) && known[q] > p -> covered = 1
		:: else
		fi
	}
	q = 0;
#ifdef WRONG_TRUNCATE
	covered = 0;
#endif
	/* Nothing is called damage that never was durable. */
	assert(!covered || damaged[p])
}

bool found[MESSAGES], excused[MESSAGES], tail;

inline recover()
{
	p = 0;
	tail = 0;
	do
	:: p < next ->
		if
		:: p > 0 && segment[p] != segment[p - 1] -> tail = 0 /* a new segment is a new beginning */
		:: else
		fi;
		if
		:: segment[p] != 0 && hole[p] ->
			judge_hole();
#if defined(CUT) || defined(WRONG_TRUNCATE)
			tail = (tail || !covered)
#endif
		:: else
		fi;
		if
		:: segment[p] != 0 && whole[p] && !tail && part[p] >= COMMIT ->
			ok = 1;
			if
			:: part[p] == COMMIT -> check_chunks()
			:: else
			fi;
			if
			:: ok -> check_readable(); found[part[p] - COMMIT] = 1; needed[p] = 1
			:: else
			fi
		:: else
		fi;
		/* Its own damage excuses a message: it is reported as damage or as a torn tail, and set aside (I20). */
		if
		:: damaged[p] && part[p] >= COMMIT -> excused[part[p] - COMMIT] = 1
		:: damaged[p] && part[p] < COMMIT -> excused[0] = 1
		:: else
		fi;
		p++
	:: else -> break
	od;
	for (i : 0 .. MESSAGES - 1) {
		/* I1, I6: what was promised is presented, whatever happened to others. */
		assert(!promised[i] || found[i] || excused[i]);
		gone[i] = (gone[i] || !found[i]);
		found[i] = 0;
		excused[i] = 0
	}
	i = 0;
	p = 0;
	tail = 0;
	ok = 0;
	covered = 0
}

/* A crash: of each group in flight, and of each failed one, all, some or nothing is there; and a durable one may be
 * damaged. */
inline crash()
{
	for (k : 0 .. PLACES - 1) {
		if
		:: k < next && progress[k] == DONE -> whole[k] = 1
		:: k < next && progress[k] == DONE && k < durable && damages < DAMAGES ->
			damages++; damaged[k] = 1; whole[k] = 0; hole[k] = 1
		:: k < next && (progress[k] == FLIGHT || progress[k] == FAILED) -> whole[k] = 1
		:: k < next && (progress[k] == FLIGHT || progress[k] == FAILED) -> hole[k] = 1
		:: else
		fi;
		progress[k] = FREE
	}
	k = 0;
	in_flight = 0;
	recover();
	/* An upload that was not complete is over, and so is what was not answered. */
	for (i : 0 .. PARTS - 1) {
		wanted[i] = 0;
		complete[i] = 0;
		lies[i] = NOWHERE
	}
	for (i : 0 .. MESSAGES - 1) {
		begun[i] = 1
	}
	i = 0;
	if
	:: !promised[MESSAGES - 1] && gone[MESSAGES - 1] -> begun[MESSAGES - 1] = 0; gone[MESSAGES - 1] = 0 /* sent again */
	:: else
	fi;
	/* I4: appends go on in a new segment. */
#ifdef WRONG_APPEND
	next = 0;
	do
	:: next < PLACES && segment[next] != 0 && whole[next] -> next++
	:: else -> break
	od;
	current = 1;
#else
	current++;
#endif
	durable = next
}

active proctype stream()
{
	atomic {
		for (i : 0 .. PARTS - 1) {
			lies[i] = NOWHERE
		}
		for (i : 0 .. CHUNKS * PLACES - 1) {
			listed[i] = NOWHERE
		}
		i = 0
	}
end:	do
	:: atomic { /* a message of one group arrives, or an upload begins */
		k = 0;
		do
		:: k < MESSAGES - 1 -> k++
		:: break
		od;
		if
		:: !begun[k] && k > 0 -> begun[k] = 1; wanted[COMMIT + k] = 1
		:: !begun[k] && k == 0 ->
			begun[k] = 1;
			for (i : 0 .. CHUNKS - 1) {
				wanted[i] = 1
			}
			i = 0
		:: else
		fi;
		k = 0
	   }
	:: atomic { /* all chunks are there: COMMIT (I6: only when all of them are durable) */
		begun[0] && lies[COMMIT] == NOWHERE && !wanted[COMMIT] ->
		ok = 1;
		for (i : 0 .. CHUNKS - 1) {
#ifdef WRONG_COMMIT
			if
			:: lies[i] == NOWHERE -> ok = 0
			:: else
			fi
#else
			if
			:: lies[i] == NOWHERE || wanted[i] || !complete[i] || lies[i] >= durable -> ok = 0
			:: else
			fi
#endif
		}
		i = 0;
		wanted[COMMIT] = ok;
		ok = 0
	   }
	:: atomic { /* a group is submitted */
		next < PLACES && in_flight < IN_FLIGHT_MAX && failures < 100 ->
		k = 0;
		do
		:: k < PARTS - 1 -> k++
		:: break
		od;
		if
		:: wanted[k] -> submit(k)
		:: else
		fi;
		k = 0
	   }
	:: atomic { /* a write completes */
		in_flight > 0 ->
		k = 0;
		do
		:: k < PLACES - 1 -> k++
		:: break
		od;
		if
		:: progress[k] == FLIGHT ->
			progress[k] = DONE; in_flight--; complete[part[k]] = 1;
#ifdef WRONG_ORDER
			ack(part[k]);
#endif
			if
			:: failures < 100 -> advance()
			:: failures >= 100 && in_flight == 0 -> failures = failures - 100; close_segment()
			:: else
			fi
		:: else
		fi;
		k = 0
	   }
	:: atomic { /* a write fails: 100 marks the segment to be closed when nothing is in flight */
		in_flight > 0 && failures < FAILURES ->
		k = 0;
		do
		:: k < PLACES - 1 -> k++
		:: break
		od;
		if
		:: progress[k] == FLIGHT ->
			progress[k] = FAILED; in_flight--; failures = failures + 101;
			if
			:: in_flight == 0 -> failures = failures - 100; close_segment()
			:: else
			fi
		:: else
		fi;
		k = 0
	   }
	:: atomic { crashes < CRASHES -> crashes++; failures = (failures >= 100 -> failures - 100 : failures); crash() }
	od
}
