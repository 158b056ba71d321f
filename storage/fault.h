/* Fault: the table's file is mapped into memory, so what the disk cannot give comes as SIGBUS and not as
 * an error. Then the process ends (design: rule U4) with words that say why; without this it
 * would look like a defect of the program. */
#ifndef STORAGE_FAULT_H
#define STORAGE_FAULT_H

/* From now on. path: of the table's directory; it is copied. Once, before threads start. */
void fault_init(const char *path);

#endif
