# Write duet(3) from its template: the line @FUNCTIONS@ becomes the functions of duet.h with what stands
# before each.   awk -v header=duet.h -f functions.awk duet.3.in

# Sentences begin on lines of their own, as mdoc wants them.
function safe(text) {
    gsub(/\\/, "\\e", text)
    if (!literal)
        gsub(/[.:;] /, "&\n", text)
    if (!literal)
        gsub(/ +\n/, "\n", text)
    return text
}

# One comment line into `said`; a table's line (indented) is kept as it is.
function say(line) {
    sub(/ *\*\/ *$/, "", line)
    sub(/^ ?\/?\*+ ?/, "", line)
    if (line ~ /^  +/ && !literal) {
        said = said ".Bd -literal\n"
        literal = 1
    } else if (line !~ /^  +/ && literal) {
        said = said ".Ed\n"
        literal = 0
    }
    if (line ~ /^ *$/)
        said = literal || said == "" || said ~ /\.Ed\n$/ ? said : said ".Pp\n"
    else
        said = said safe(line) "\n"
}

function functions(    line, inside, name) {
    while ((getline line < header) > 0) {
        if (line ~ /^\/\* [^-]/) {
            said = ""
            literal = 0
            inside = 1
        }
        if (inside)
            say(line)
        if (inside && line ~ /\*\//) {
            said = literal ? said ".Ed\n" : said
            inside = literal = 0
        }
        if (line ~ /^DUET_API / && match(line, /duet_[a-z_]+\(/)) {
            name = substr(line, RSTART, RLENGTH - 1)
            print ".It Fn " name
            sub(/\.Pp\n\.Bd/, ".Bd", said)
            sub(/\.Pp\n$/, "", said)
            printf "%s", said == "" ? "As above.\n" : said
            said = ""
        }
    }
}

/^@FUNCTIONS@$/ {
    print ".Bl -tag -width Ds"
    functions()
    print ".El"
    next
}
{ print }
