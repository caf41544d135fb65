# explain_twice.awk - may each letter that arrived twice have done so? Reads one ledger, in the order things happened:
#
#   NUMBER ok MS         the sink has taken the letter, at MS, and answers 250 a moment later
#   0 killed MS          the server was killed, and the sink has read all that was sent
#   NUMBER waiting       ... and so the letter is unfinished in the spool, as it lies on disk
#
# -v window_ms=N: how long the outcome of a delivery may stay in memory. Prints what it counted, and one line beginning
# with "WRONG" for each letter that breaks a rule.
#
# (a) Again after a kill only what was unfinished on disk at that kill, and within one life nothing twice.
# (b) What a life delivered longer than the window before its kill is finished on disk at that kill, and what is finished
#     stays so. (What was open at one kill may still be open at the next: a short life sends nothing again.)

$2 == "ok" || $2 == "altered" {
    if ($1 in taken_life) {
        if (taken_life[$1] == life)
            wrong("letter " $1 " arrived twice in life " life)
        else if (waited_kill[$1] != life)
            wrong("letter " $1 " arrived again in life " life ", though it was finished on disk before")
        else if (++explained[life] > most)
            most = explained[life]
        twice++
    } else {
        if ($1 > 0)
            once++
    }
    taken_life[$1] = life
    taken_ms[$1] = $3
    this_life[$1] = $3
}

$2 == "killed" {
    # Of what this life delivered, how much the window rule speaks of.
    for (number in this_life)
        if ($3 - this_life[number] > window_ms)
            old++
    split("", this_life)
    life++
    killed_ms = $3
}

$2 == "waiting" {
    waiting++
    if ($1 in taken_life) {
        open++
        if (taken_life[$1] == life - 1 && killed_ms - taken_ms[$1] > window_ms)
            wrong("letter " $1 " was taken " killed_ms - taken_ms[$1] " ms before kill " life " and is not finished on disk")
        else if (taken_life[$1] < life - 1 && waited_kill[$1] != life - 1)
            wrong("letter " $1 " was finished on disk before kill " life - 1 " and is not at kill " life)
    }
    waited_kill[$1] = life
}

$2 == "unreadable" { wrong("a letter in the spool cannot be read") }

function wrong(text) {
    if (++wrongs <= 20)
        print "WRONG: " text
}

END {
    printf "kills %d, twice %d, each sent before a kill and without its outcome on disk then (at most %d after one kill)\n",
        life, twice, most
    printf "taken more than %d ms before a kill: %d, all finished on disk; taken, and open at a kill: %d; open in all: %d\n",
        window_ms, old, open, waiting
    exit wrongs > 0
}
