/* The program of the image in the frozen Swarm state: serves /page/index.html on port 8080.

   Without a C library, so that its image is a few kilobytes. x86-64 Linux only. Build:
   gcc -Os -static -nostdlib -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,--build-id=none \
       -Wl,-z,noseparate-code -s -o server server.c */

static long call(long number, long a, long b, long c) {
    long found;
    register long d __asm__("r10") = 0;
    register long e __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(found)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d), "r"(e)
                     : "rcx", "r11", "memory");
    return found;
}

enum { READ, WRITE, OPEN, CLOSE, SOCKET = 41, ACCEPT = 43, BIND = 49, LISTEN = 50, EXIT = 60 };

static char text[4096];
static char request[4096];
static const char head[] = "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n";
static const char address[16] = {2, 0, 8080 >> 8, 8080 & 255};

void _start(void) {
    long file = call(OPEN, (long)"/page/index.html", 0, 0);
    long length = call(READ, file, (long)text, sizeof text);
    long listener = call(SOCKET, 2, 1, 0);
    if (length < 0 || call(BIND, listener, (long)address, sizeof address) < 0)
        call(EXIT, 1, 0, 0);
    call(LISTEN, listener, 16, 0);
    for (;;) {
        long client = call(ACCEPT, listener, 0, 0);
        call(READ, client, (long)request, sizeof request);
        call(WRITE, client, (long)head, sizeof head - 1);
        call(WRITE, client, (long)text, length);
        call(CLOSE, client, 0, 0);
    }
}
