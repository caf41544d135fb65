/* epoch.pml - who may append: an owner that is slow to notice, the next one that takes its spool over, crashes of that one.
 *
 * The first owner has epoch 1. Its appends are submitted, land, and only then are answered with 250; one that was submitted
 * may land late, after everything else. Taking over: the next epoch is written to SUPER and durable, the old owner is
 * fenced, the log is read, and the place where its records end is noted with the epoch: the take-over point. Only then does
 * the new owner append, to a segment of its own. It may crash at any step, and is then taken over itself.
 *
 * Wrong variants: -DWRONG_FENCE (the log is read before the old owner is fenced), -DWRONG_EPOCH (appending before the epoch
 * is durable), -DWRONG_LATE (records of a lower epoch behind the take-over point count).
 * I<n> are the invariants of the queue, named in README.md.
 */
#ifndef OLD
#define OLD 3 /* appends of the first owner */
#endif
#ifndef NEW
#define NEW 2 /* appends of each later one */
#endif
#ifndef EPOCHS
#define EPOCHS 5
#endif

byte super_epoch = 1;         /* durable */
byte point = 255;             /* the take-over point in the first owner's segment, durable with the epoch */
byte landed, submitted, promised; /* the first owner: counts, promised <= landed <= submitted */
bool fenced, fence_wanted;
byte seen;                    /* how many of its records the last recovery presented */
bool recovered_once;
byte epoch;                   /* of the later owner, 0: none */
byte phase;                   /* 1: epoch staged, 2: durable, 3: fenced, 4: log read, appending */
byte count;                   /* appends in this epoch */
bool lsn_used[EPOCHS * NEW];
byte i;

active proctype spool()
{
end:	do
	:: atomic { !fenced && submitted < OLD -> submitted++ }
	:: atomic { landed < submitted -> landed++ } /* also when it is fenced: it was on its way */
	:: atomic { !fenced && promised < landed -> promised++ }

	:: atomic { phase == 0 && super_epoch + 1 < EPOCHS -> epoch = super_epoch + 1; count = 0; phase = 1 }
	:: atomic { phase == 1 -> super_epoch = epoch; phase = 2 }
#ifdef WRONG_FENCE
	:: atomic { phase == 2 -> phase = 3 }
	:: atomic { phase >= 3 && !fenced -> fenced = 1 }
#else
	:: atomic { phase == 2 -> fenced = 1; phase = 3 }
#endif
#ifdef WRONG_EPOCH
	:: atomic { phase == 1 -> fenced = 1; phase = 3 }
#endif
	:: atomic { /* the log is read; the first reading fixes the take-over point, the later ones obey it */
		phase == 3 ->
		if
		:: point == 255 -> seen = landed; point = landed
		:: point != 255 ->
#ifdef WRONG_LATE
			/* I19, I24: what one recovery did not find, no later one finds: its sender was told so, or sent it again. */
			assert(landed == seen)
#else
			seen = (landed < point -> landed : point);
			assert(seen == point)
#endif
		fi;
		recovered_once = 1;
		phase = 4
	   }
	:: atomic { /* I23, I24: an LSN, epoch and number, is used once */
		phase == 4 && count < NEW ->
		assert(!lsn_used[epoch * NEW + count]);
		lsn_used[epoch * NEW + count] = 1;
		count++
	   }
	:: atomic { phase > 0 -> phase = 0; epoch = 0; count = 0 } /* a crash: a staged epoch is lost */

	/* I1: whatever the first owner promised, each recovery presented. */
	:: atomic { recovered_once && promised > seen -> assert(false) }
	od
}
