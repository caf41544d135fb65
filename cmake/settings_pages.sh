#!/bin/sh
# settings_pages.sh KILATCTL TEMPLATE DIRECTORY: kilat.conf.5 and kilat.conf.sample, from the table of settings.
set -eu
"$1" settings --manual > "$3/kilat.conf.rows"
sed -e "/^@SETTINGS@\$/{r $3/kilat.conf.rows
d}" "$2" > "$3/kilat.conf.5"
"$1" settings --defaults > "$3/kilat.conf.sample"
