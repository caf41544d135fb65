/* reserve.pml - the segments of one disk, almost full: who may take which, so that a full spool still drains.
 *
 * All segments are of one size and take ROOM records. Four reserves of one segment each are kept: for the next checkpoint,
 * as the target of a relocation, for the J log, for reports being produced. A freed segment fills the reserves first, in
 * this order, because what frees further segments must not wait for what only uses them; accepting takes only what is left, and only while all reserves are full. An attempt starts only when J has
 * room for its result beside those of all others in flight, and D for the report that it may end in. A full J segment is
 * free when both kept checkpoints begin behind it. Messages on hold are tried by nobody: their segments come free by
 * relocation alone.
 *
 * What holds: whoever has to write (a result, a report) finds the place (I22; the report comes before BOUNCED, I8); and a
 * spool where something can still be delivered, freed or accepted never stands still, which Spin sees as a deadlock.
 *
 * Sizes: -DSEGMENTS -DATTEMPTS -DACCEPTED -DHELD. Wrong variants: -DWRONG_ACCEPT (takes from the reserves), -DWRONG_ATTEMPT
 * (starts without room for its result), -DWRONG_CHECKPOINT, -DWRONG_RELOC, -DWRONG_REPORT (no reserve of their own),
 * -DWRONG_ORDER (the reserves of J and of reports are filled before those that free segments again), -DWRONG_SEAL (a full D
 * segment counts as open until the next record comes).
 * I<n> are the invariants of the queue, named in README.md.
 */
#ifndef SEGMENTS
#define SEGMENTS 10
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* in flight at once */
#endif
#ifndef ACCEPTED
#define ACCEPTED 6 /* messages in all */
#endif
#ifndef HELD
#define HELD 2
#endif
#define ROOM 2

byte spare = SEGMENTS - 7; /* the rest: an open segment of J, two checkpoints, four reserves */
bool for_checkpoint = 1, for_j = 1, for_reports = 1, for_reloc = 1;
bool opened;                                             /* the open D segment, if there is one */
byte d_room, here_tried, here_held;
byte one_tried, two_tried, one_held, two_held, one_each; /* sealed D segments by what lives in them */
byte j_room = ROOM, j_new, j_old; /* J: full segments since the last checkpoint, and between the two kept */
byte checkpoints = 2;
byte accepted, held, failures, flight;

#define TRIED (here_tried + one_tried + 2 * two_tried + one_each)
#define D_SEALED (one_tried + two_tried + one_held + two_held + one_each)
#define RESERVES (for_checkpoint + for_j + for_reports + for_reloc)

#ifdef WRONG_CHECKPOINT
#define CHECKPOINT_POSSIBLE (spare > 0)
#else
#define CHECKPOINT_POSSIBLE (spare > 0 || for_checkpoint)
#endif
#ifdef WRONG_RELOC
#define RELOC_POSSIBLE (spare > 0)
#else
#define RELOC_POSSIBLE (spare > 0 || for_reloc)
#endif
#ifdef WRONG_REPORT
#define REPORT_POSSIBLE (d_room > 0 || spare > 0)
#define REPORTS_FIT 1
#else
#define REPORT_POSSIBLE (d_room > 0 || spare > 0 || for_reports)
#define REPORTS_FIT (d_room + ROOM * for_reports > flight)
#endif
#ifdef WRONG_SEAL
#define SEAL_EARLY skip
#define SEAL_LATE seal_full()
#else
#define SEAL_EARLY seal_full()
#define SEAL_LATE skip
#endif
#ifdef WRONG_ATTEMPT
#define RESULTS_FIT 1
#else
#define RESULTS_FIT (j_room + ROOM * for_j > flight)
#endif
#ifdef WRONG_ACCEPT
#define ACCEPT_POSSIBLE (d_room > 0 || spare + RESERVES > 0)
#else
#define ACCEPT_POSSIBLE (RESERVES == 4 && (d_room > 0 || spare > 0))
#endif

/* One segment came free. */
inline give()
{
	if
#ifdef WRONG_ORDER
	:: !for_j -> for_j = 1
	:: for_j && !for_reports -> for_reports = 1
	:: for_j && for_reports && !for_checkpoint -> for_checkpoint = 1
	:: for_j && for_reports && for_checkpoint && !for_reloc -> for_reloc = 1
#else
	:: !for_checkpoint -> for_checkpoint = 1
	:: for_checkpoint && !for_reloc -> for_reloc = 1
	:: for_checkpoint && for_reloc && !for_j -> for_j = 1
	:: for_checkpoint && for_reloc && for_j && !for_reports -> for_reports = 1
#endif
	:: else -> spare++
	fi
}

/* Takes a segment: of the spare ones, else of the named reserve. */
inline take(reserve)
{
	if
	:: spare > 0 -> spare--
	:: spare == 0 && reserve -> reserve = 0
#ifdef WRONG_ACCEPT
	:: spare == 0 && !reserve && for_checkpoint -> for_checkpoint = 0
	:: spare == 0 && !reserve && for_reloc -> for_reloc = 0
	:: spare == 0 && !reserve && for_j -> for_j = 0
#endif
	:: else -> assert(false)
	fi
}

/* A full D segment is sealed at once: kept open until the next record comes, it could be dead and yet not free, and a full
 * disk would stand still. */
inline seal_full()
{
	if
	:: d_room == 0 && opened ->
		if
		:: here_tried == 2 -> two_tried++
		:: here_held == 2 -> two_held++
		:: here_tried == 1 && here_held == 1 -> one_each++
		:: here_tried == 1 && here_held == 0 -> one_tried++
		:: here_tried == 0 && here_held == 1 -> one_held++
		:: here_tried == 0 && here_held == 0 -> give()
		fi;
		here_tried = 0;
		here_held = 0;
		opened = 0
	:: else
	fi
}

inline note() /* a result goes to J */
{
	if
	:: j_room > 0
	:: j_room == 0 -> assert(spare > 0 || for_j); take(for_j); j_new++; j_room = ROOM
	fi;
	j_room--
}

inline finish_one() /* a tried record, anywhere, is dead now */
{
	if
	:: here_tried > 0 -> here_tried--
	:: two_tried > 0 -> two_tried--; one_tried++
	:: one_each > 0 -> one_each--; one_held++
	:: one_tried > 0 -> one_tried--; give()
	fi
}

active proctype disk()
{
	do
	:: atomic { /* 250, for mail that will be tried or is put on hold; else 452 */
		accepted < ACCEPTED && ACCEPT_POSSIBLE ->
		if
		:: d_room == 0 -> SEAL_LATE; take(for_reports); d_room = ROOM; opened = 1
		:: d_room > 0
		fi;
		d_room--; accepted++;
		if
		:: here_tried++
		:: held < HELD -> held++; here_held++
		fi;
		SEAL_EARLY
	   }
	:: atomic { flight < ATTEMPTS && TRIED > flight && RESULTS_FIT && REPORTS_FIT -> flight++ }
	:: atomic { flight > 0 -> note(); flight--; finish_one() /* delivered */ }
	:: atomic { flight > 0 -> note(); flight-- /* deferred */ }
	:: atomic { /* failed: the report, then BOUNCED; a report fails without one */
		flight > 0 && failures < accepted ->
		assert(REPORT_POSSIBLE);
		if
		:: d_room == 0 -> SEAL_LATE; take(for_reports); d_room = ROOM; opened = 1
		:: d_room > 0
		fi;
		d_room--; here_tried++; failures++;
		SEAL_EARLY;
		note(); flight--; finish_one()
	   }
	:: atomic { /* a checkpoint is written and published; the older of the two kept goes, with the J segments it needed */
		j_new + j_old > 0 && CHECKPOINT_POSSIBLE ->
		take(for_checkpoint);
		give();
		do
		:: j_old > 0 -> j_old--; give()
		:: else -> break
		od;
		j_old = j_new; j_new = 0
	   }
	:: atomic { /* two segments with one live record each are relocated into one */
		one_tried + one_held > 1 && RELOC_POSSIBLE ->
		take(for_reloc);
		if
		:: one_tried > 1 -> one_tried = one_tried - 2; two_tried++
		:: one_held > 1 -> one_held = one_held - 2; two_held++
		:: one_tried > 0 && one_held > 0 -> one_tried--; one_held--; one_each++
		fi;
		give(); give()
	   }
	:: atomic { /* all was accepted, all that may be tried is done, and nothing can be freed */
		accepted == ACCEPTED && TRIED == 0 && flight == 0 && one_tried + one_held < 2 -> break
	   }
	od;
	assert(spare + RESERVES + D_SEALED + opened + 1 + j_new + j_old + checkpoints == SEGMENTS)
}
