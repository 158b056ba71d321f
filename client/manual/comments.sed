# The comments of duet.h are plain ones; doxygen wants two stars, and "<" where a comment stands behind
# what it is about. Headings (---- so ----) stay plain.
1s,^/\* ,/** @file duet.h\n * ,
/^ *\/\* ----/b
s,^( *)/\* ,\1/** ,
s,([^ ]) +/\* (.*)$,\1 /**< \2,
