/* Stands between nvme-cli and the kernel: answers its commands from files, and writes down each command as it was built.
 *
 * In the folder NVME_PROOF: answer-OO-NN (opcode and low byte of dword 10, hexadecimal) is what a command returns; to
 * commands each command is appended as 'a' or 'i' (admin, I/O), the kernel's struct of 72 bytes, and the data it sends.
 */
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void must(int works, const char *what)
{
	if (!works) {
		perror(what);
		abort();
	}
}

static void answer(const struct nvme_passthru_cmd *command, const char *folder)
{
	void *data = (void *)(uintptr_t)command->addr;
	char path[4096];
	int file;

	memset(data, 0, command->data_len);
	snprintf(path, sizeof(path), "%s/answer-%02x-%02x", folder, command->opcode, command->cdw10 & 0xff);
	file = open(path, O_RDONLY);
	if (file < 0)
		return;
	must(read(file, data, command->data_len) >= 0, path);
	close(file);
}

static void record(const struct nvme_passthru_cmd *command, char queue, const char *folder)
{
	char path[4096];
	int file;

	snprintf(path, sizeof(path), "%s/commands", folder);
	file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	must(file >= 0, path);
	must(write(file, &queue, 1) == 1, path);
	must(write(file, command, sizeof(*command)) == sizeof(*command), path);
	if (command->opcode & 1)
		must(write(file, (void *)(uintptr_t)command->addr, command->data_len) == command->data_len, path);
	close(file);
}

int ioctl(int fd, unsigned long request, ...)
{
	const char *folder = getenv("NVME_PROOF");
	struct nvme_passthru_cmd *command;
	va_list rest;

	(void)fd;
	va_start(rest, request);
	command = va_arg(rest, struct nvme_passthru_cmd *);
	va_end(rest);
	must(folder != NULL, "NVME_PROOF");
	if (request == NVME_IOCTL_ID)
		return 1;
	if (request == NVME_IOCTL_RESCAN)
		return 0;
	if (request != NVME_IOCTL_ADMIN_CMD && request != NVME_IOCTL_IO_CMD)
		return -1;
	record(command, request == NVME_IOCTL_ADMIN_CMD ? 'a' : 'i', folder);
	command->result = 0;
	if ((command->opcode & 3) == 2 && command->addr)
		answer(command, folder);
	return 0;
}
